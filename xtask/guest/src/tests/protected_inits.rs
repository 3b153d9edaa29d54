//! `protectInit: true`: the init of a container is exempt from OOM kills, and nothing else is.

use super::dying_children::forks_again;
use crate::harness::{
    agent::{Agent, capabilities},
    audit::Audit,
    container::{Cgroup, Container, run_in},
    role::role as role_of,
    say::say,
    system,
    test::{Test, tests},
    wait::{alive, eventually, within},
};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::Signal,
};
use std::{
    fs,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

pub const TESTS: &[Test] = tests![
    protected_init_outlives_its_children,
    what_a_protected_init_starts_has_its_own_score,
    protected_init_is_restored_when_the_rule_goes,
    protected_init_is_left_to_the_next_agent,
    protected_init_alone_over_its_limit,
    each_limit_is_throttled_by_itself,
    only_scores_of_protected_containers_are_written,
    protected_init_is_restored_before_its_container_is_a_group,
];

const RULES: &str = "rules:\n- {name: matched, cgroups: ['/matched/*'], oomGroup: single-process, protectInit: true}\n";
const WITHOUT: &str =
    "rules:\n- {name: matched, cgroups: ['/matched/*'], oomGroup: single-process}\n";
const GROUP: &str = "rules:\n- {name: matched, cgroups: ['/matched/*'], oomGroup: group}\n";
const STATE: &str = "/tmp/protected-inits.json";

/// The score that the containers of these tests have by themselves.
const OWN: &str = "300";

/// How often a container becomes a group.
const ROUNDS: usize = 5;

/// How long a container is watched, and how many are.
const WATCHED: Duration = Duration::from_secs(10);
const CONTAINERS: usize = 3;

/// Programs of these containers. Each has [`OWN`], and begins when it is exempt.
pub fn role(rest: &[&str]) -> ExitCode {
    match *rest {
        // What `what_a_protected_init_starts_has_its_own_score` looks at.
        ["family"] => {
            begin();
            let mut started = role_of("protected", &["forks"]).spawn().expect("a child");
            system::forked(|| {
                system::forked(|| idle());
                idle();
            });
            system::forked(|| {
                // In the instant in which the agent writes it would be a matter of luck.
                let own = "/proc/self/oom_score_adj";
                while fs::read_to_string(own).is_ok_and(|score| score.trim() == "-1000") {
                    sleep(Duration::from_millis(10));
                }
                fs::write(own, "700").expect("a score");
                idle();
            });
            started.wait().expect("a child that lives");
            idle()
        }
        // A program that was started, and starts another without one.
        ["forks"] => {
            system::forked(|| idle());
            idle()
        }
        ["growing", mebibytes] => {
            begin();
            sleep(Duration::from_secs(1));
            let mut memory = Vec::new();
            for _ in 0..mebibytes.parse().expect("MiB") {
                memory.push(vec![1u8; 1 << 20]);
                sleep(Duration::from_millis(2));
            }
            idle()
        }
        ["filling", milliseconds] => {
            begin();
            fill(Duration::from_millis(milliseconds.parse().expect("milliseconds")))
        }
        ["dying-children"] => {
            begin();
            forks_again()
        }
        // What an exec has, and what it starts.
        ["scores"] => {
            let child = role_of("protected", &["score"]).output().expect("a child");
            print!("{} {}", own(), String::from_utf8_lossy(&child.stdout));
            ExitCode::SUCCESS
        }
        ["score"] => {
            println!("{}", own());
            ExitCode::SUCCESS
        }
        ["idle"] => {
            fs::write("/proc/self/oom_score_adj", OWN).expect("a score");
            idle()
        }
        _ => panic!("no such role {rest:?}"),
    }
}

/// Takes its score, and waits until it is exempt.
fn begin() {
    fs::write("/proc/self/oom_score_adj", OWN).expect("a score");
    while own() != "-1000" {
        sleep(Duration::from_millis(10));
    }
}

/// Fills its limit with a file, then asks for another page again and again. What a write is
/// refused is not tried again, as it is for a page fault.
fn fill(pause: Duration) -> ! {
    let file = memfd_create("filling", MemfdFlags::empty()).expect("a file");
    loop {
        if rustix::io::write(&file, &[1; 4096]).is_err() {
            sleep(pause);
        }
    }
}

/// Its score.
fn own() -> String {
    fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default().trim().to_owned()
}

fn idle() -> ! {
    loop {
        sleep(Duration::from_secs(3600));
    }
}

fn start(rules: &str) -> Agent {
    let capabilities: Vec<_> =
        capabilities().into_iter().chain(["sys_resource", "dac_override"]).collect();
    let mut agent = Agent::spawn(rules, &["--state-file", STATE], &capabilities);
    agent.wait_until_ready();
    agent
}

fn begin_anew() -> Agent {
    let _ = fs::remove_file(STATE);
    start(RULES)
}

fn score(pid: u32) -> String {
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default();
    score.trim().to_owned()
}

/// The scores of all in a container but its init, in order.
fn others(container: &Container, init: u32) -> Vec<String> {
    let processes = container.cgroup.processes().into_iter().filter(|pid| *pid != init);
    let mut scores: Vec<_> = processes.map(score).collect();
    scores.sort();
    scores
}

fn is_protected(agent: &Agent, path: &str) -> bool {
    agent.container(path).is_some_and(|container| container["init"] == "protected")
}

/// On kernels that hide exiting processes the init would not live for long.
fn protected_init_outlives_its_children() {
    let agent = begin_anew();
    for number in 0..CONTAINERS {
        let path = format!("/matched/c{number}");
        let mut container = Container::start_program(&path, 64, &["protected", "dying-children"]);
        let init = container.init();
        eventually("it is protected", || score(init) == "-1000" && is_protected(&agent, &path));
        let (began, mut ended) = (Instant::now(), false);
        while !ended && began.elapsed() < WATCHED {
            sleep(Duration::from_millis(50));
            ended = container.ended();
        }
        let kills = container.cgroup.event("oom_kill");
        say(&format!("protected: {kills} kills, init {}", if ended { "dead" } else { "alive" }));
        assert!(!ended && kills > 2, "{kills} kills; {}", Agent::log());
        assert_eq!(score(init), "-1000");
        drop(container);
        Cgroup::made(&path).remove();
    }
    let kills = agent.kills();
    assert!(kills.iter().all(|kill| kill["kind"] == "subprocess"), "{kills:#?}");
    assert_eq!(agent.metric("herder_init_forks_lost_total"), 0.0);
    let restored = r#"herder_oom_score_writes_total{result="ok",what="child"}"#;
    assert!(agent.metric(restored) >= 3.0 * CONTAINERS as f64);
    agent.assert_nothing_lost();
}

/// Children, grandchildren, what was started by vfork() and exec; and not what has chosen a
/// score for itself.
fn what_a_protected_init_starts_has_its_own_score() {
    let agent = begin_anew();
    let container = Container::start_program("/matched/c1", 64, &["protected", "family"]);
    let init = container.init();
    let expected = [OWN, OWN, OWN, OWN, "700"];
    within(Duration::from_secs(60), "all have their own score", || {
        others(&container, init) == expected
    });
    assert_eq!(score(init), "-1000");
    sleep(Duration::from_secs(6));
    assert_eq!(others(&container, init), expected, "and keep it");
    assert_eq!(score(init), "-1000", "the init too, after it was looked at again");
    assert_eq!(agent.metric("herder_inits_protected"), 1.0);
    // What it was given leaves no right behind: its children may go no lower than before.
    let limits = r#"herder_oom_score_writes_total{result="error",what="child"}"#;
    assert_eq!(agent.metric(limits), 0.0);
}

fn protected_init_is_restored_when_the_rule_goes() {
    let mut agent = begin_anew();
    let container = Container::start_program("/matched/c1", 64, &["protected", "family"]);
    let init = container.init();
    eventually("it is protected", || is_protected(&agent, "/matched/c1"));
    Agent::reconfigure(WITHOUT);
    eventually("it has its own score again", || score(init) == OWN);
    let container_now = || agent.container("/matched/c1").unwrap();
    eventually("and says so", || container_now()["init"].is_null());
    assert_eq!(container.cgroup.oom_group(), "0", "the rest of the rule stays");
    Agent::reconfigure(RULES);
    eventually("it is protected again", || score(init) == "-1000");
    eventually("its children never stay so", || {
        others(&container, init).iter().all(|score| score != "-1000")
    });
    assert!(agent.stop().success());
    assert_eq!(score(init), OWN, "an agent that ends leaves nothing exempt");
    assert!(others(&container, init).iter().all(|score| score != "-1000"));
}

/// An agent that is killed leaves an init whose children are exempt, until the next.
fn protected_init_is_left_to_the_next_agent() {
    let mut agent = begin_anew();
    let container = Container::start_program("/matched/c1", 64, &["protected", "family"]);
    let init = container.init();
    eventually("it is protected", || is_protected(&agent, "/matched/c1"));
    eventually("all have their score", || others(&container, init).len() == 5);
    for (rules, expected) in [(RULES, "-1000"), (WITHOUT, OWN)] {
        agent.signal(Signal::KILL);
        agent.wait();
        assert_eq!(score(init), "-1000");
        // As a child that is forked meanwhile has it.
        let child = *container.cgroup.processes().last().unwrap();
        fs::write(format!("/proc/{child}/oom_score_adj"), "-1000").unwrap();
        agent = start(rules);
        eventually("the child has its score again", || score(child) == OWN);
        eventually("the init has what the rules say", || score(init) == expected);
        sleep(Duration::from_secs(2));
        assert_eq!(score(init), expected);
        assert!(others(&container, init).iter().all(|score| score != "-1000"));
    }
}

/// Nothing else can be killed. The kernel would try for ever.
fn protected_init_alone_over_its_limit() {
    let agent = begin_anew();
    let mut container =
        Container::start_program("/matched/c1", 32, &["protected", "growing", "64"]);
    let init = container.init();
    eventually("it is protected", || is_protected(&agent, "/matched/c1"));
    let began = Instant::now();
    within(Duration::from_secs(120), "the kernel takes it in the end", || container.ended());
    say(&format!("alone over its limit: ended after {:.1} s", began.elapsed().as_secs_f64()));
    assert!(!alive(init));
    let kills = agent.wait_for_kills(1);
    assert_eq!((&kills[0]["kind"], &kills[0]["victim"]["pid"]), (&"init".into(), &init.into()));
    assert!(Agent::log().contains("found nothing else to kill"), "{}", Agent::log());
    let restored = r#"herder_oom_score_writes_total{result="ok",what="restore"}"#;
    assert_eq!(agent.metric(restored), 1.0);
}

/// The OOM killer finds no victim for one limit, without end. Of another limit, which is hit now and
/// then, each time is handed over all the same; of one that is hit often, fifty a second.
fn each_limit_is_throttled_by_itself() {
    let agent = begin_anew();
    let endless = Cgroup::make("/endless");
    endless.limit(16);
    let mut process = run_in(&endless, &["protected", "filling", "0"]);
    eventually("it has its score", || score(process.id()) == OWN);
    fs::write(format!("/proc/{}/oom_score_adj", process.id()), "-1000").unwrap();
    eventually("nothing can be killed", || endless.event("oom") > 100);
    let before = endless.event("oom");
    let [asked, handed_over, seconds] = asked_in_vain(&agent, "400");
    let elsewhere = (endless.event("oom") - before) as f64;
    assert!(elsewhere > 50.0 * seconds, "only {elsewhere} elsewhere");
    // The last ones may come when the init is being restored, and when it dies.
    assert!(handed_over >= asked - 3.0, "{handed_over} of {asked}");
    process.kill().unwrap();
    process.wait().unwrap();
    let [asked, handed_over, seconds] = asked_in_vain(&agent, "0");
    assert!(handed_over <= 50.0 * seconds + 1.0, "{handed_over} in {seconds} s");
    assert!(handed_over < asked / 2.0, "{handed_over} of {asked}");
}

/// A protected init that is alone over its limit asks for more after each pause, until it is
/// killed: how often it asked, how many of these attempts were handed over, and in how many seconds.
fn asked_in_vain(agent: &Agent, pause: &str) -> [f64; 3] {
    let handed_over = || agent.metric("herder_init_no_victim_total");
    let (began, before) = (Instant::now(), handed_over());
    let path = format!("/matched/c{pause}");
    let mut container = Container::start_program(&path, 32, &["protected", "filling", pause]);
    within(Duration::from_secs(60), "its init is killed", || container.ended());
    let asked = container.cgroup.event("oom") as f64;
    let (handed_over, seconds) = (handed_over() - before, began.elapsed().as_secs_f64());
    say(&format!("every {pause} ms: {handed_over} of {asked} handed over, {seconds:.1} s"));
    [asked, handed_over, seconds]
}

/// fanotify sees every write of the agent below `/proc`.
fn only_scores_of_protected_containers_are_written() {
    let other = Container::start_program("/other/c1", 64, &["protected", "idle"]);
    let unprotected = Container::start_program("/plain/c1", 64, &["protected", "idle"]);
    let audit = Audit::start("/proc");
    let agent = begin_anew();
    let container = Container::start_program("/matched/c1", 64, &["protected", "family"]);
    let init = container.init();
    eventually("it is protected", || is_protected(&agent, "/matched/c1"));
    eventually("all have their score", || others(&container, init) == [OWN, OWN, OWN, OWN, "700"]);
    let mut allowed: Vec<_> = container.cgroup.processes();
    allowed.sort_unstable();
    let mut written = audit.files_written_by(agent.pid());
    assert!(!written.is_empty(), "the audit sees the agent");
    written.retain(|file| {
        let rest = file.strip_prefix("/proc/").and_then(|rest| rest.split_once('/'));
        let is_allowed = |(pid, name): (&str, &str)| {
            let pid = pid.parse().is_ok_and(|pid| allowed.contains(&pid));
            pid && ["oom_adj", "oom_score_adj"].contains(&name)
        };
        !rest.is_some_and(is_allowed)
    });
    assert!(written.is_empty(), "{written:?}");
    for container in [&other, &unprotected] {
        assert_eq!(score(container.init()), OWN);
    }
}

/// Else a kill of the group in between would pass over it.
fn protected_init_is_restored_before_its_container_is_a_group() {
    let agent = begin_anew();
    let container = Container::start_program("/matched/c1", 64, &["protected", "idle"]);
    let init = container.init();
    for _ in 0..ROUNDS {
        eventually("it is protected", || is_protected(&agent, "/matched/c1"));
        assert_eq!(score(init), "-1000");
        Agent::reconfigure(GROUP);
        let began = Instant::now();
        while container.cgroup.oom_group() != "1" {
            assert!(began.elapsed() < Duration::from_secs(60), "it becomes a group");
        }
        assert_eq!(score(init), OWN);
        Agent::reconfigure(RULES);
    }
}
