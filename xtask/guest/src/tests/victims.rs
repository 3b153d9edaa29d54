//! Does the agent describe the victim and its cgroup as they are?

use crate::harness::{
    agent::{Agent, MATCHED},
    container::{Cgroup, Container, hog_below, run_in},
    kill::assert_kill,
    test::{Test, tests},
    wait::eventually,
};
use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    thread::sleep,
    time::Duration,
};

pub const TESTS: &[Test] = tests![victim_is_described, names_that_are_no_text];

/// The owner of a cgroup names those in it by any bytes. A kill in one is its container's,
/// a rule matches it like any other, and no owner can fill the log by making them.
fn names_that_are_no_text() {
    let agent = Agent::start(MATCHED);
    let container = Container::start("/matched/c1", 60, &["idle"]);
    let below = |name: &[u8]| {
        let path = [container.cgroup.file("").as_bytes(), name].concat();
        PathBuf::from(OsString::from_vec(path))
    };
    let names: [&[u8]; 3] = [b"\xff\xfe", b"a\x1b[31m\t\"'\\", &[b'n'; 255]];
    for (number, name) in names.into_iter().enumerate() {
        fs::create_dir(below(name)).unwrap();
        hog_below(&container.cgroup, &below(name)).wait().unwrap();
        let kill = &agent.wait_for_kills(number + 1)[number];
        let shown = kill["cgroup"].as_str().unwrap();
        assert!(shown.starts_with("/matched/c1/"), "{shown:?}");
        assert!(!shown.contains(|letter: char| letter.is_control()), "{shown:?}");
        assert_kill(kill, "subprocess", "container", shown);
        assert_eq!(kill["rule"], "matched");
    }
    let series =
        r#"herder_host_oom_kills_total{cgroup="/matched/c1",kind="subprocess",limit="container"}"#;
    assert_eq!(agent.metric(series), 3.0);
    let matched = PathBuf::from(OsString::from_vec(b"/sys/fs/cgroup/matched/\xff".to_vec()));
    fs::create_dir(&matched).unwrap();
    let value = || fs::read_to_string(matched.join("memory.oom.group")).unwrap();
    fs::write(matched.join("memory.oom.group"), "1").unwrap();
    eventually("it is enforced", || value() == "0\n");
    assert!(agent.container("/matched/\\xff").is_some());
    assert!(agent.get("/metrics").contains(r#"herder_host_oom_group{cgroup="/matched/\\xff"} 0"#));
    // As deep as names of this length go, and further than the kernel reports.
    let mut deep = below(b"\xff\xfe");
    while deep.as_os_str().len() < 3500 {
        deep.push(OsStr::from_bytes(&[0xfe; 200]));
        fs::create_dir(&deep).unwrap();
    }
    hog_below(&container.cgroup, &deep).wait().unwrap();
    let kill = &agent.wait_for_kills(4)[3];
    assert_eq!([&kill["rule"], &kill["limit"]], ["matched", "container"]);
    let lines = || Agent::log().lines().count();
    let before = lines();
    for _ in 0..100 {
        fs::create_dir(below(b"again\xff")).unwrap();
        fs::remove_dir(below(b"again\xff")).unwrap();
        fs::create_dir(deep.join("x")).unwrap();
        fs::remove_dir(deep.join("x")).unwrap();
    }
    sleep(Duration::from_millis(500));
    assert!(lines() <= before + 1, "{}", Agent::log());
    agent.assert_nothing_lost();
}

/// Every field of the victim, as the process itself arranged it: who it is, what it
/// has of each kind of memory.
fn victim_is_described() {
    let agent = Agent::start(MATCHED);
    let cgroup = Cgroup::make("/matched/c1");
    cgroup.limit(100);
    let mut process = run_in(&cgroup, &["described", "30", "16", "8"]);
    eventually("it has what it is to have", || {
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        status.contains("Uid:\t1234\t") && kib(&status, "RssShmem:") >= 16 << 10
    });
    fs::write(format!("/proc/{}/oom_score_adj", process.id()), "77").unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    cgroup.limit(20);
    let kills = agent.wait_for_kills(1);
    let victim = &kills[0]["victim"];
    assert_eq!((&victim["pid"], &victim["tid"]), (&process.id().into(), &process.id().into()));
    assert_eq!((&victim["uid"], &victim["oom_score_adj"]), (&1234.into(), &77.into()));
    assert_eq!(victim["comm"], "init", "{victim:#}");
    for (field, line) in [
        ("anon_rss", "RssAnon:"),
        ("file_rss", "RssFile:"),
        ("shmem_rss", "RssShmem:"),
        ("total_vm", "VmSize:"),
    ] {
        let (reported, before) = (victim[field].as_u64().unwrap() >> 10, kib(&status, line));
        // Its pages of files may be taken from it, and each counter of the kernel
        // lags by a batch for each processor.
        let least = if field == "file_rss" { 0 } else { before.saturating_sub(1024) };
        assert!(
            (least..=before + 1024).contains(&reported),
            "{field}: {reported}, was {before} KiB"
        );
    }
    process.wait().unwrap();
    agent.assert_nothing_lost();
}

fn kib(status: &str, line: &str) -> u64 {
    let found = status.lines().find_map(|found| found.strip_prefix(line));
    found.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}
