//! What the agent does where things are not as they should be.

use crate::harness::{
    agent::{Agent, MATCHED, capabilities},
    container::{Cgroup, Container},
    say::say,
    test::{Test, tests},
    wait::eventually,
};
use rustix::mount::{MountFlags, UnmountFlags};
use std::{
    fs,
    io::Write,
    net::TcpStream,
    os::unix::net::UnixListener,
    process::Command,
    thread,
    time::{Duration, Instant},
};

pub const TESTS: &[Test] = tests![
    only_two_capabilities,
    the_doctor,
    removed_while_written,
    read_only_mount,
    ends_in_time,
    the_core_turns,
    sizes
];

/// For a boot without cgroup v2: the memory controller cannot be moved later.
pub const TESTS_OF_V1: &[Test] = tests![cgroup_v1_only];

/// For programs that were built with `cargo xtask build-ebpf --log`.
pub const TESTS_OF_LOGGING: &[Test] = tests![programs_log];

/// What the programs say comes out with the agent's own log, if it is asked for.
fn programs_log() {
    for (level, logged) in [("info", false), ("debug", true)] {
        let agent = Agent::start_with(MATCHED, &["--log-level", level]);
        let _container = Container::start("/matched/c1", 60, &["idle", "hog:100"]);
        agent.wait_for_kills(1);
        for line in ["marked thread", "decided: 1 kills"] {
            assert_eq!(Agent::log().contains(line), logged, "{level}: {}", Agent::log());
        }
    }
}

/// All tests run the agent so; here it is shown.
fn only_two_capabilities() {
    let agent = Agent::start(MATCHED);
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let bit = |name: &str| match name {
        "bpf" => 39,
        "perfmon" => 38,
        _ => 24,
    };
    let wanted: u64 = capabilities().into_iter().map(|name| 1 << bit(name)).sum();
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{set}:"))).unwrap();
        assert_eq!(u64::from_str_radix(line.trim(), 16).unwrap(), wanted, "{set}");
    }
}

fn the_doctor() {
    let output = Command::new("/bin/herder-agent").arg("check").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for line in ["kernel", "BTF", "tracepoint", "eBPF programs", "cgroup v2", "memory controller"] {
        assert!(
            text.lines().any(|found| found.starts_with("ok") && found.contains(line)),
            "{line}: {text}"
        );
    }
    let output = crate::harness::role::role("confined", &["--", "/bin/herder-agent", "check"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "kills can be counted: {text}");
    assert!(text.contains("warn  capabilities") && text.contains("capabilities.add"), "{text}");
    assert!(text.contains("warn  eBPF programs") && text.contains("memory-events"), "{text}");
    tries_what_run_will_do();
}

/// `check` opens a cgroup that a rule matches; where there is none one of root's, and never one
/// of another user, which says nothing about what rules are for.
fn tries_what_run_will_do() {
    let cgroups: Vec<_> = ["/aaa/c1", "/bbb.scope", "/mine", "/zzz/c1"].map(Cgroup::make).into();
    for cgroup in &cgroups {
        cgroup.set("memory.oom.group", "1");
        if cgroup.path() != "/mine" {
            std::os::unix::fs::chown(cgroup.file("memory.oom.group"), Some(1234), None).unwrap();
        }
    }
    let rules = |rules: &[(&str, &str)]| {
        let rule = |(name, path): &(&str, &str)| {
            format!("- {{name: {name}, cgroups: ['{path}'], oomGroup: single-process}}\n")
        };
        fs::write(
            "/tmp/check.yaml",
            format!("rules:\n{}", rules.iter().map(rule).collect::<String>()),
        )
        .unwrap();
        let check = ["--", "/bin/herder-agent", "check", "--config", "/tmp/check.yaml"];
        let output = crate::harness::role::role("confined", &check).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = rules(&[("none", "/nowhere/*")]);
    for part in [
        "ok    enforcement",
        "no rule with cgroups: matches anything now",
        "none matches nothing now",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let others = ["/aaa/c1", "/bbb.scope", "/zzz/c1"];
    assert!(!others.iter().any(|path| text.contains(path)), "{text}");
    let text = rules(&[("none", "/nowhere/*"), ("mine", "/mine")]);
    assert!(text.contains("ok    enforcement") && text.contains("/mine (rule mine"), "{text}");
    let text = rules(&[("all", "/aaa/*"), ("mine", "/mine")]);
    for part in ["warn  enforcement", "1 of 2", "/aaa/c1 (rule all)", "CAP_DAC_OVERRIDE"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for cgroup in &cgroups {
        assert_eq!(cgroup.oom_group(), "1", "nothing was changed");
        cgroup.remove();
    }
}

/// Matched cgroups come and go faster than they can be corrected.
fn removed_while_written() {
    let agent = Agent::start(MATCHED);
    Cgroup::make("/matched/first");
    thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                for number in 0..100 {
                    let path = format!("/sys/fs/cgroup/matched/w{worker}-{number}");
                    fs::create_dir(&path).unwrap();
                    fs::write(format!("{path}/memory.oom.group"), "1").unwrap();
                    fs::remove_dir(&path).unwrap();
                }
            });
        }
    });
    eventually("only the first is left", || {
        agent.get("/api/v1/containers").matches("\"rule\":\"matched\"").count() == 1
    });
    assert_eq!(
        agent.metric(r#"herder_oom_group_writes_total{result="error",rule="matched"}"#),
        0.0
    );
    assert!(!Agent::log().contains("ERROR"), "{}", Agent::log());
}

fn read_only_mount() {
    fs::create_dir_all("/tmp/ro").unwrap();
    rustix::mount::mount_bind("/sys/fs/cgroup", "/tmp/ro").unwrap();
    rustix::mount::mount_remount("/tmp/ro", MountFlags::BIND | MountFlags::RDONLY, c"").unwrap();
    let agent = Agent::start_with(MATCHED, &["--cgroup-root", "/tmp/ro"]);
    let container = Container::start("/matched/c1", 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    assert_eq!(kills[0]["kind"], "group", "it could not be steered");
    assert!(Agent::log().contains("mount /sys/fs/cgroup read-write"), "{}", Agent::log());
    assert!(agent.metric(r#"herder_oom_group_writes_total{result="error",rule="matched"}"#) >= 1.0);
    drop(container);
    drop(agent);
    rustix::mount::unmount("/tmp/ro", UnmountFlags::DETACH).unwrap();
}

/// A host with cgroup v1 only: that is logged, and kills are still observed. Newer
/// kernels have no memory controller for v1 any more; on those the node itself
/// runs out of memory.
fn cgroup_v1_only() {
    fs::create_dir_all("/tmp/v1").unwrap();
    // What a first try has left would be in the way of the second.
    let _ = rustix::mount::unmount("/tmp/v1", UnmountFlags::DETACH);
    let mount =
        |options| rustix::mount::mount("cgroup", "/tmp/v1", "cgroup", MountFlags::empty(), options);
    let limited = mount(c"memory").is_ok();
    if !limited {
        mount(c"none,name=herder").unwrap();
    }
    // A runtime would start no container whose spec has memory.oom.group.
    let socket = "/tmp/nri-of-v1.sock";
    let _ = fs::remove_file(socket);
    let runtime = UnixListener::bind(socket).unwrap();
    runtime.set_nonblocking(true).unwrap();
    let flags = ["--cgroup-root", "/tmp/v1", "--nri", "on", "--nri-socket", socket];
    let agent = Agent::start_with(MATCHED, &flags);
    let log = Agent::log();
    assert!(log.contains("cgroup v1") && log.contains("not enforced"), "{log}");
    assert!(log.contains("NRI is not used"), "{log}");
    fs::create_dir_all("/tmp/v1/c1").unwrap();
    if limited {
        fs::write("/tmp/v1/c1/memory.limit_in_bytes", "40M").unwrap();
    }
    let mut hog =
        crate::harness::role::role("enter-v1", &["/tmp/v1/c1", "grower", "16"]).spawn().unwrap();
    // To fill the node takes as long as the emulator needs; only the report is the agent's.
    hog.wait().unwrap();
    let kills = agent.wait_for_kills(1);
    assert_eq!(kills[0]["victim"]["pid"], hog.id());
    // Ids of v1 cgroups mean others on v2, so no limit is guessed.
    let limit = if limited { "unknown" } else { "node" };
    assert_eq!(
        [&kills[0]["kind"], &kills[0]["limit"], &kills[0]["cgroup"]],
        ["subprocess", limit, "/"]
    );
    assert_eq!(agent.total("herder_oom_group_writes_total"), 0.0);
    assert!(runtime.accept().is_err(), "nothing has connected");
}

/// SIGTERM with as many idle connections as the server takes, and more: Kubernetes
/// kills what is not gone in time, and nothing would be restored then.
fn ends_in_time() {
    let cgroup = Cgroup::make("/matched/c1");
    cgroup.set("memory.oom.group", "1");
    let mut agent = Agent::start_with(MATCHED, &["--restore-on-exit"]);
    let connections: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect("127.0.0.1:9469").unwrap();
            stream.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    assert!(agent.stop().success());
    let took = began.elapsed();
    say(&format!("ended in {:.1} s with {} connections", took.as_secs_f64(), connections.len()));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(cgroup.oom_group(), "1");
}

/// The liveness probe asks for it, also where nothing happens and the resync is rare.
fn the_core_turns() {
    let agent = Agent::start_with(MATCHED, &["--resync-seconds", "3600"]);
    thread::sleep(Duration::from_secs(9));
    let answer = agent.get("/livez");
    let seconds = answer.split_whitespace().find_map(|word| word.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds <= 6), "{answer}");
}

/// Not a test of a limit: figures for the closing note.
fn sizes() {
    let agent = Agent::start(MATCHED);
    let containers: Vec<_> =
        (0..30).map(|number| Cgroup::make(&format!("/matched/c{number}"))).collect();
    for cgroup in &containers {
        cgroup.set("memory.oom.group", "1");
    }
    eventually("all are enforced", || containers.iter().all(|cgroup| cgroup.oom_group() == "0"));
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = |name: &str| {
        let found = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        found.trim().to_owned()
    };
    let (rss, peak) = (line("VmRSS:"), line("VmHWM:"));
    say(&format!("agent with 30 matched containers: RSS {rss}, peak {peak}, {}", line("RssAnon:")));
    assert!(!rss.is_empty());
}
