//! Process 1: sets the machine up, runs the tests, powers off.

use crate::{
    harness::{
        parameter::parameter,
        role::SELF,
        say::say,
        system::interface_up,
        test::{filtered, listed},
    },
    runtime,
};
use rustix::{
    mount::MountFlags,
    process::{Pid, Signal, WaitOptions, kill_process, wait},
    system::RebootCommand,
};
use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// How long one test may take; more if it was asked for many containers.
fn test_timeout() -> Duration {
    let starts = parameter("starts").and_then(|count| count.parse().ok()).unwrap_or(0);
    Duration::from_secs(240 + 10 * starts)
}

/// No measure takes that long.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A cgroup that stays for the guest's whole life. With the first memory cgroup the
/// kernel patches its own code in dozens of places, and back with the last one
/// (`memcg_sockets_enabled_key`, mm/memcontrol.c). Each patch is a chance for the
/// emulator to run stale code, so the tests do not make it do so again and again.
const LASTING: &str = "/sys/fs/cgroup/lasting";

/// Type, place, options. Those that a kernel may lack are optional.
const MOUNTS: &[(&str, &str, &str, bool)] = &[
    ("sysfs", "/sys", "", true),
    ("devtmpfs", "/dev", "", true),
    ("tmpfs", "/tmp", "", true),
    ("tmpfs", "/run", "", true),
    ("tracefs", "/sys/kernel/tracing", "", false),
];

const CGROUP2: (&str, &str, &str, bool) =
    ("cgroup2", "/sys/fs/cgroup", "nsdelegate,memory_recursiveprot", true);

pub fn run() -> ExitCode {
    rustix::mount::mount("proc", "/proc", "proc", MountFlags::empty(), c"").unwrap();
    let mode = parameter("mode");
    if matches!(mode.as_deref(), Some("runtime" | "systemd" | "bench")) {
        runtime::machine::root_that_can_be_pivoted();
    }
    if mode.as_deref() == Some("systemd") {
        load_modules();
        runtime::machine::become_systemd();
    }
    let version1 = mode.as_deref() == Some("v1");
    for (kind, place, options, needed) in MOUNTS.iter().chain((!version1).then_some(&CGROUP2)) {
        let options = std::ffi::CString::new(*options).unwrap();
        let mounted =
            rustix::mount::mount(*kind, *place, *kind, MountFlags::empty(), options.as_c_str());
        assert!(mounted.is_ok() || !needed, "cannot mount {kind} on {place}: {mounted:?}");
    }
    if !version1 {
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids").unwrap();
        fs::create_dir(LASTING).unwrap();
    }
    // The console must not have a line for each process that the kernel kills.
    let _ = fs::write("/proc/sys/kernel/printk", "3 4 1 3");
    load_modules();
    loopback_up();
    let verdict = match mode.as_deref() {
        Some(role @ ("demo" | "show")) => {
            let seconds = parameter("seconds").and_then(|text| text.parse().ok());
            let seconds = seconds.unwrap_or(60u64).to_string();
            supervised(Command::new(SELF).args(["role", role, &seconds]), Duration::from_secs(1000))
                .map_or(Verdict::FAILED, |()| Verdict::PASSED)
        }
        Some("lockdown") => {
            let (kind, place) = ("securityfs", "/sys/kernel/security");
            rustix::mount::mount(kind, place, kind, MountFlags::empty(), c"").unwrap();
            run_tests("lockdown")
        }
        Some("record") => record(),
        Some("bench") => measure(),
        Some(mode) => run_tests(mode),
        None => run_tests("test"),
    };
    end(verdict)
}

/// The same where systemd is process 1 and has set the machine up; not all of its
/// releases mount what the tests look at.
pub fn below_systemd() -> ExitCode {
    if !Path::new("/sys/kernel/tracing/trace_clock").exists() {
        let tracing = "/sys/kernel/tracing";
        rustix::mount::mount("tracefs", tracing, "tracefs", MountFlags::empty(), c"").unwrap();
    }
    let _ = fs::write("/proc/sys/kernel/printk", "3 4 1 3");
    end(run_tests("systemd"))
}

/// What became of some tests. A flaky one has passed, at its second try only.
struct Verdict {
    passed: u32,
    failed: u32,
    flaky: u32,
}

impl Verdict {
    const PASSED: Self = Verdict { passed: 1, failed: 0, flaky: 0 };
    const FAILED: Self = Verdict { passed: 0, failed: 1, flaky: 0 };
}

fn end(Verdict { passed, failed, flaky }: Verdict) -> ExitCode {
    say(&format!("verdict: {passed} passed, {failed} failed, {flaky} flaky"));
    rustix::fs::sync();
    rustix::system::reboot(RebootCommand::PowerOff).unwrap();
    ExitCode::SUCCESS
}

/// Each node in a process of its own, as the tests are.
fn record() -> Verdict {
    let mut failed = 0;
    for node in ["node-1", "node-2"] {
        let mut command = Command::new(SELF);
        let result = supervised(command.args(["role", "record", node]), test_timeout());
        if let Err(why) = result {
            failed += 1;
            say(&format!("FAILED  {node}: {why}"));
        }
        clean_up();
    }
    Verdict { passed: 2 - failed, failed, flaky: 0 }
}

/// One measure of `cargo xtask bench`; the host decides how long it may take.
fn measure() -> Verdict {
    // Some of the programs look there for the same as in /sys/kernel/tracing.
    let debug =
        rustix::mount::mount("debugfs", "/sys/kernel/debug", "debugfs", MountFlags::empty(), c"");
    let _ = fs::create_dir("/dev/pts");
    let terminals = rustix::mount::mount("devpts", "/dev/pts", "devpts", MountFlags::empty(), c"");
    assert!(debug.is_ok() && terminals.is_ok(), "{debug:?} {terminals:?}");
    let name = parameter("measure").expect("herder.measure");
    let outcome = supervised(Command::new(SELF).args(["bench", &name]), A_DAY);
    if let Err(why) = &outcome {
        say(&format!("FAILED  {name}: {why}"));
    }
    outcome.map_or(Verdict::FAILED, |()| Verdict::PASSED)
}

/// Runs the tests of a mode that the host has chosen.
fn run_tests(mode: &str) -> Verdict {
    let filter = parameter("filter").unwrap_or_default();
    let mut list = Command::new(SELF);
    let list = list.args(["test", mode, "--list"]).args(filtered(&filter)).output().unwrap();
    assert!(list.status.success(), "{mode} cannot be listed: {list:?}");
    let list = String::from_utf8(list.stdout).unwrap();
    let mut verdict = Verdict { passed: 0, failed: 0, flaky: 0 };
    for name in listed(&list) {
        // An emulated kernel on a shared host has moments when nothing runs for seconds.
        // A test that fails has one more try, and both are reported.
        if passes(mode, name) {
            verdict.passed += 1;
        } else if passes(mode, name) {
            say(&format!("FLAKY   {name} passed at its second try only"));
            verdict.passed += 1;
            verdict.flaky += 1;
        } else {
            verdict.failed += 1;
        }
    }
    verdict
}

fn passes(mode: &str, name: &str) -> bool {
    let began = Instant::now();
    let mut test = Command::new(SELF);
    let result = supervised(test.args(["test", mode, "--exact", name]), test_timeout());
    let took = began.elapsed().as_secs_f64();
    match &result {
        Ok(()) => say(&format!("ok      {name} ({took:.1} s)")),
        Err(why) => {
            say(&format!("FAILED  {name} ({took:.1} s): {why}"));
            say(&fs::read_to_string("/tmp/agent.log")
                .map_or_else(|_| String::new(), |log| tail(&log, 40)));
        }
    }
    clean_up();
    result.is_ok()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| format!("  agent: {line}\n")).collect()
}

/// Runs a command to its end, and buries whatever else dies meanwhile.
fn supervised(command: &mut Command, timeout: Duration) -> Result<(), String> {
    let child = command.stdin(Stdio::null()).spawn().map_err(|error| error.to_string())?;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let deadline = Instant::now() + timeout;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((dead, status))) if dead == pid => {
                return if status.exit_status() == Some(0) {
                    Ok(())
                } else {
                    Err(format!("{status:?}"))
                };
            }
            Ok(Some(_)) => {}
            _ if Instant::now() > deadline => {
                kill_process(pid, Signal::KILL).unwrap();
                return Err(format!("no end after {timeout:?}"));
            }
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Kills what a test left behind, and removes its cgroups.
fn clean_up() {
    let own = rustix::process::getpid().as_raw_pid();
    if own != 1 {
        // Then the machine is systemd's, and tests remove what they made.
        return;
    }
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().parse::<i32>().ok().and_then(Pid::from_raw);
        // Kernel threads have no executable.
        let program = fs::read_link(entry.path().join("exe"));
        if let Some(pid) = pid.filter(|pid| pid.as_raw_pid() != own && program.is_ok()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    for _ in 0..200 {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if remove_below(Path::new("/sys/fs/cgroup")) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = fs::remove_file("/tmp/agent.log");
}

/// Removes all cgroups below one but the lasting one; true if none is left.
fn remove_below(cgroup: &Path) -> bool {
    let mut empty = true;
    for entry in fs::read_dir(cgroup).unwrap().flatten() {
        if entry.path() != Path::new(LASTING) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            empty &= remove_below(&entry.path()) && fs::remove_dir(entry.path()).is_ok();
        }
    }
    empty
}

/// Loads what the host put there. They need each other in an order that is not
/// known, so each is tried until none can be loaded any more.
fn load_modules() {
    let mut left: Vec<_> =
        fs::read_dir("/modules").unwrap().flatten().map(|entry| entry.path()).collect();
    left.sort();
    loop {
        let before = left.len();
        left.retain(|path| {
            let file = fs::File::open(path).unwrap();
            rustix::system::finit_module(file, c"", 0).is_err()
        });
        if left.is_empty() || left.len() == before {
            return;
        }
    }
}

/// The tests talk to the agent over the loopback device, the host's port to the
/// virtual card, if there is one. There is no `ip` program; busybox is not here.
fn loopback_up() {
    interface_up("lo", [127, 0, 0, 1]);
}
