//! The hog as a process: a killed child is reported and started again, and SIGTERM
//! ends it all.

#![allow(clippy::unwrap_used, reason = "a test")]

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

/// The pid in `child 1 (pid 23): …`.
fn pid(line: &str) -> Pid {
    let text = line.split_once("(pid ").unwrap().1.split_once(')').unwrap().0;
    Pid::from_raw(text.parse().unwrap()).unwrap()
}

#[test]
fn a_killed_child_is_started_again_and_sigterm_ends_all() {
    let mut hog = Command::new(env!("CARGO_BIN_EXE_herder-hog"))
        .env("HOG_CHILDREN", "1")
        .env("HOG_MIB_PER_SECOND", "200")
        .env("HOG_CPU_PERCENT", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(hog.stdout.take().unwrap()).lines().map(Result::unwrap);
    let init = lines.next().unwrap();
    assert!(init.starts_with("init (pid "), "{init}");

    let first = lines.next().unwrap();
    assert!(first.starts_with("child 1 ") && first.ends_with(": 16 MiB"), "{first}");
    kill_process(pid(&first), Signal::KILL).unwrap();
    let reported = lines.by_ref().find(|line| !line.ends_with(" MiB")).unwrap();
    assert_eq!(pid(&reported), pid(&first));
    assert!(
        reported.contains(": killed (SIGKILL) after ") && reported.ends_with("; 1 restarts"),
        "{reported}"
    );
    // Reaped: no zombie is left of it.
    assert!(test_kill_process(pid(&first)).is_err());

    let second = lines.next().unwrap();
    assert_ne!(pid(&second), pid(&first));
    kill_process(pid(&init), Signal::TERM).unwrap();
    let last = lines.by_ref().find(|line| !line.ends_with(" MiB")).unwrap();
    assert_eq!(last, "init: asked to end, after 1 restarts");
    assert!(hog.wait().unwrap().success());
    assert!(test_kill_process(pid(&second)).is_err());
}

#[test]
fn a_bad_setting_is_rejected() {
    let mut hog = Command::new(env!("CARGO_BIN_EXE_herder-hog"));
    let output = hog.env("HOG_CHILDREN", "none").output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("HOG_CHILDREN=\"none\""), "{error}");
}
