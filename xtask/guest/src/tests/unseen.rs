//! What no agent saw, or what one has lost, is counted: by what the kernel counts of each
//! cgroup and of the node.

use crate::harness::{
    agent::{Agent, MATCHED},
    container::{Cgroup, Container, hog_below, run_in},
    kill::{reported_in_log, sub_process_dies},
    say::say,
    storm::storm_in,
    test::{Test, tests},
    wait::eventually,
};
use rustix::{
    fs::{FileType, Mode},
    process::Signal,
};
use std::{fs, os::unix::process::ExitStatusExt, path::Path, thread, time::Duration};

pub const TESTS: &[Test] = tests![
    kills_while_no_agent_runs,
    rule_goes_while_no_agent_runs,
    lost_and_gone,
    disk_never_answers,
    state_file_of_others,
    killed_in_a_storm,
    killed_where_nothing_counts
];

const STATE: [&str; 2] = ["--state-file", "/tmp/state.json"];

/// The next agent counts how many processes died while there was none, and knows
/// which value to restore.
fn kills_while_no_agent_runs() {
    let _ = fs::remove_file(STATE[1]);
    let mut agent = Agent::start_with(MATCHED, &STATE);
    let container = Container::start("/matched/c1", 60, &["grower:4!", "idle"]);
    eventually("some are reported", || agent.kills().len() >= 2);
    assert!(agent.stop().success());
    let before = container.cgroup.event("oom_kill");
    eventually("some die unseen", || container.cgroup.event("oom_kill") >= before + 3);
    container.cgroup.set("memory.max", "max");
    let gone = killed_and_removed("/matched/gone") + killed_and_removed("/not-matched");
    thread::sleep(Duration::from_secs(1));
    let here = container.cgroup.event("oom_kill") - before;
    let flags = [&STATE[..], &["--restore-on-exit"]].concat();
    let mut agent = Agent::start_with(MATCHED, &flags);
    let unseen = agent.metric(r#"herder_kills_unseen_total{reason="agent-down"}"#);
    say(&format!("{here} died in a container, {gone} in others that are gone; {unseen} unseen"));
    // Between the agent's last look and that of this test one more may have died.
    let meanwhile = (here + gone) as f64;
    assert!((meanwhile..=meanwhile + 2.0).contains(&unseen), "{unseen}, {meanwhile} died");
    assert!(Agent::log().contains(&format!("processes={gone}")), "{}", Agent::log());
    agent.assert_nothing_lost();
    assert!(agent.stop().success());
    assert_eq!(container.cgroup.oom_group(), "1", "what the runtime wanted");
    let mut agent = Agent::start(MATCHED);
    assert!(Agent::log().contains("Without --state-file"), "{}", Agent::log());
    assert!(agent.stop().success());
    fs::write(STATE[1], "another program's").unwrap();
    let mut agent = Agent::start_with(MATCHED, &STATE);
    assert!(Agent::log().contains("is not an agent's state file"), "{}", Agent::log());
    assert!(agent.stop().success());
    assert_eq!(fs::read_to_string(STATE[1]).unwrap(), "another program's");
    fs::remove_file(STATE[1]).unwrap();
}

/// An update of the agent together with its rules: what no rule matches any more gets its value
/// back, and the state file forgets it. What a rule still matches never changes.
fn rule_goes_while_no_agent_runs() {
    let _ = fs::remove_file(STATE[1]);
    let (goes, stays) = (Cgroup::make("/matched/goes"), Cgroup::make("/matched/stays"));
    for cgroup in [&goes, &stays] {
        cgroup.set("memory.oom.group", "1");
    }
    let values = || [goes.oom_group(), stays.oom_group()];
    let mut agent = Agent::start_with(MATCHED, &STATE);
    eventually("both are enforced", || values() == ["0", "0"]);
    assert!(agent.stop().success());
    let rules =
        "rules:\n- {name: matched, cgroups: ['/matched/stays'], oomGroup: single-process}\n";
    let mut agent = Agent::start_with(rules, &STATE);
    eventually("the value comes back", || values() == ["1", "0"]);
    let writes = |rule| format!("herder_oom_group_writes_total{{result=\"ok\",rule=\"{rule}\"}}");
    assert_eq!(agent.metric(&writes("matched")), 1.0, "it is counted, and once");
    assert!(Agent::log().contains("cause=Restore"), "{}", Agent::log());
    let saved = || fs::read_to_string(STATE[1]).unwrap();
    eventually("it is forgotten", || !saved().contains("/matched/goes"));
    assert!(saved().contains("/matched/stays") && saved().contains("\"give_back\":true"));
    assert!(agent.stop().success());
    let mut agent = Agent::start_with("rules: []", &STATE);
    eventually("nothing is matched any more", || values() == ["1", "1"]);
    assert!(agent.stop().success());
}

/// A cgroup that is killed as a group and removed; what the kernel counted of it.
fn killed_and_removed(path: &str) -> u64 {
    let cgroup = Cgroup::make(path);
    cgroup.limit(40);
    cgroup.set("memory.oom.group", "1");
    let mut idle = run_in(&cgroup, &["idle"]);
    eventually("the other is in", || cgroup.processes().len() == 1);
    run_in(&cgroup, &["hog", "100"]).wait().unwrap();
    assert_eq!(idle.wait().unwrap().signal(), Some(9));
    let killed = cgroup.event("oom_kill");
    assert!(killed >= 2, "{killed}");
    cgroup.remove();
    killed
}

/// The agent cannot count what it has lost of a cgroup that is gone, but the node's own
/// count stays.
fn lost_and_gone() {
    let flags = ["--kill-ring-bytes", "4096", "--resync-seconds", "1"];
    let agent = Agent::start_with(MATCHED, &flags);
    agent.pause();
    let killed: u64 = (0..30).map(|number| killed_and_removed(&format!("/gone-{number}"))).sum();
    agent.resume();
    let unseen = || agent.metric(r#"herder_kills_unseen_total{reason="missed"}"#);
    eventually("the node's count is compared", || unseen() > 0.0);
    let reported: u64 = agent.kills().iter().map(|kill| kill["processes"].as_u64().unwrap()).sum();
    let (reported, lost, unseen) =
        (reported as f64, agent.total("herder_kills_lost_total"), unseen());
    say(&format!("{killed} killed: {reported} reported, {lost} lost, {unseen} unseen"));
    assert_eq!(reported + lost, 60.0, "each kill is reported or lost");
    // The kernel may count the first of each group twice, which may then be one of the lost.
    let twice = agent.kills().len() as f64;
    let all = killed as f64 - reported;
    assert!((all - twice..=all).contains(&unseen), "{unseen} unseen of {all}");
}

/// Inside of a container there are cgroups without the memory controller: those of a Docker
/// or systemd in it, and threaded ones. What dies in them is counted in the container.
fn killed_where_nothing_counts() {
    for source in ["ebpf", "memory-events"] {
        let flags = ["--source", source, "--resync-seconds", "1"];
        let mut agent = Agent::start_with(MATCHED, &flags);
        let container = Container::start("/matched/c1", 60, &["idle"]);
        for (number, (name, is_threaded)) in
            [("plain", false), ("threads", true)].iter().enumerate()
        {
            let child = Cgroup::made(&format!("/matched/c1/{name}"));
            fs::create_dir(child.file("")).unwrap();
            if *is_threaded {
                child.set("cgroup.type", "threaded");
            }
            assert!(!Path::new(&child.file("memory.events.local")).exists());
            let directory = child.file("");
            hog_below(&container.cgroup, Path::new(&directory)).wait().unwrap();
            let kills = agent.wait_for_kills(number + 1);
            assert_eq!(kills[number]["rule"], "matched", "{source}");
            assert_eq!(kills[number]["kind"], "subprocess", "{source}");
        }
        let series = r#"herder_host_oom_kills_total{cgroup="/matched/c1",kind="subprocess""#;
        assert_eq!(agent.total(series), 2.0);
        assert_eq!(container.cgroup.event("oom_kill"), 2);
        // Until the count of the cgroup has been compared.
        thread::sleep(Duration::from_secs(7));
        agent.assert_nothing_lost();
        assert!(agent.stop().success());
        drop(container);
        for path in ["/matched/c1/plain", "/matched/c1/threads", "/matched/c1"] {
            Cgroup::made(path).remove();
        }
    }
}

/// The thread that writes the state waits for ever; neither kills nor corrections do, nor the end.
fn disk_never_answers() {
    fs::create_dir_all("/tmp/disk").unwrap();
    let disk = crate::harness::system::hold_opens("/tmp/disk");
    let mut agent = Agent::start_with(MATCHED, &["--state-file", "/tmp/disk/state.json"]);
    for path in ["/matched/c1", "/matched/c2"] {
        sub_process_dies(&agent, path);
        let cgroup = Cgroup::make(path);
        cgroup.set("memory.oom.group", "1");
        eventually("the value is kept", || cgroup.oom_group() == "0");
        thread::sleep(Duration::from_secs(1));
    }
    agent.assert_nothing_lost();
    assert!(agent.stop().success());
    assert!(Agent::log().contains("not saved in time"), "{}", Agent::log());
    drop(disk);
    fs::remove_dir_all("/tmp/disk").unwrap();
}

/// Where the state or the next one is to be stands something of another program: it is logged
/// once, left as it is, and costs nothing else. The agent's own leftover of a crash is no hindrance.
fn state_file_of_others() {
    type Put = fn(&str);
    let directory = "/tmp/states";
    let (state, new) = ("/tmp/states/state.json", "/tmp/states/state.json.new");
    let put: [(&str, &str, Put); 4] = [
        (new, "symbolic link", |path| std::os::unix::fs::symlink("/tmp/precious", path).unwrap()),
        (state, "symbolic link", |path| std::os::unix::fs::symlink("/tmp/precious", path).unwrap()),
        (state, "not a regular file", |path| {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0).unwrap();
        }),
        (state, "uid 1234", |path| {
            fs::write(path, "{\"boot_id\":\"\"}").unwrap();
            std::os::unix::fs::chown(path, Some(1234), None).unwrap();
        }),
    ];
    fs::write("/tmp/precious", "precious").unwrap();
    for (path, why, put) in put {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir(directory).unwrap();
        put(path);
        let mut agent = Agent::start_with(MATCHED, &["--state-file", state]);
        let logged = || Agent::log().matches(&format!("{path} is ")).count();
        eventually("it is logged", || logged() == 1 && Agent::log().contains(why));
        for number in 0..3 {
            Cgroup::make(&format!("/matched/c{number}")).set("memory.oom.group", "1");
            thread::sleep(Duration::from_millis(700));
        }
        assert_eq!(logged(), 1, "{}", Agent::log());
        assert!(agent.stop().success());
        let about = fs::symlink_metadata(path).unwrap();
        assert!(!about.is_file() || about.len() == 14, "{path} is as it was");
        assert_eq!(fs::read_to_string("/tmp/precious").unwrap(), "precious");
    }
    fs::remove_file(state).unwrap();
    fs::write(new, "{\"boot_").unwrap();
    let mut agent = Agent::start_with(MATCHED, &["--state-file", state]);
    assert!(agent.stop().success());
    assert!(fs::read_to_string(state).unwrap().starts_with("{\"boot_id\":"));
    assert!(!fs::exists(new).unwrap());
    fs::remove_dir_all(directory).unwrap();
}

/// The agent is killed while processes die, and started again. Each is reported by one
/// of the two, or counted as unseen; what the first reported just before its end, and its state
/// does not have yet, may be both.
fn killed_in_a_storm() {
    let _ = fs::remove_file(STATE[1]);
    let agent = Agent::start_with(MATCHED, &STATE);
    let names = (0..10).map(|number| (format!("/matched/c{number}"), "/tmp/none".into()));
    let containers = storm_in(names, 1000);
    eventually("many are reported", || agent.total("herder_host_oom_kills_total") > 20.0);
    let before = reported_in_log();
    thread::sleep(Duration::from_secs(2));
    agent.signal(Signal::KILL);
    drop(agent);
    let reported = reported_in_log();
    let lately = reported - before;
    thread::sleep(Duration::from_secs(2));
    let agent = Agent::start_with(MATCHED, &STATE);
    let reported_again = || agent.total("herder_host_oom_kills_total");
    eventually("more are reported", || reported_again() > 20.0);
    // Without a limit, processes that grow would take all of the machine's memory.
    for container in &containers {
        container.cgroup.set("cgroup.freeze", "1");
    }
    // Until the kernel's counts have been compared, the node's too.
    thread::sleep(Duration::from_secs(12));
    let all: u64 = containers.iter().map(|container| container.cgroup.event("oom_kill")).sum();
    let unseen = agent.metric(r#"herder_kills_unseen_total{reason="agent-down"}"#);
    say(&format!(
        "{all} killed: {reported} reported before the end ({lately} lately), {unseen} unseen, {} reported after",
        reported_again()
    ));
    let accounted = reported as f64 + unseen + reported_again();
    let most = (all + lately as u64) as f64;
    assert!((all as f64..=most).contains(&accounted), "{accounted} of {all}");
    assert!(unseen > 0.0);
    agent.assert_nothing_lost();
    fs::remove_file(STATE[1]).unwrap();
}
