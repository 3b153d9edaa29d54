//! `victimArguments: true`: what a victim's command line said when it died, for those who may ask.

use crate::harness::{
    agent::{Agent, MATCHED, capabilities},
    container::Container,
    role::role,
    say::say,
    system::lose_page,
    test::{Test, tests},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    os::unix::{fs::FileExt, process::CommandExt},
    process::{Command, ExitCode},
};

pub const TESTS: &[Test] = tests![
    arguments_of_a_victim,
    arguments_without_the_kernels_functions,
    arguments_of_a_group,
    arguments_that_a_program_has_rewritten,
    arguments_that_are_not_all_in_memory,
    arguments_of_threads_and_inits,
    arguments_are_not_for_everyone
];

const RULES: &str = "rules:\n- {name: matched, cgroups: ['/matched/*'], oomGroup: single-process, victimArguments: true}\n";
const GROUP: &str =
    "rules:\n- {name: matched, cgroups: ['/matched/*'], oomGroup: group, victimArguments: true}\n";

/// Only this machine can ask.
const LOCAL: [&str; 2] = ["--listen", "127.0.0.1:9469"];

const READ: &str = r#"herder_victim_arguments_total{result="read"}"#;

/// Takes a title in place of its arguments, as setproctitle() does, and then too much memory. The
/// word says how long it is, and makes room for it.
pub fn titled(word: &str) -> ExitCode {
    let (start, end) = arguments_lie_at();
    let room = end - start;
    let title = match word.split('-').next() {
        Some("short") => "web: GET /cart \x1b[31m".to_owned(),
        // It goes on where the environment was.
        Some("long") => format!("web: {}", "y".repeat(room)),
        _ => panic!("no title {word}"),
    };
    let mut bytes = title.into_bytes();
    bytes.resize(bytes.len().max(room - 1) + 1, 0);
    let memory = File::options().write(true).open("/proc/self/mem").expect("its memory");
    memory.write_all_at(&bytes, start as u64).expect("write the title");
    let said = fs::read("/proc/self/cmdline").expect("its command line");
    fs::write(format!("/tmp/title-{word}"), said).expect("note it");
    let memory = std::hint::black_box(vec![1u8; 200 << 20]);
    panic!("it may have {} bytes", memory.len());
}

const PAGE: usize = 4096;

/// Where the arguments of `paged:next` begin on their page.
const BEGINS_AT: usize = PAGE - 100;

/// Has more arguments than a page, loses the page where they end or the one after that where they
/// begin, and takes too much memory.
pub fn paged(which: &str, padding: Option<&str>) -> ExitCode {
    let again = |length: usize| -> ExitCode {
        let error = role("paged", &[which, &"z".repeat(length)]).exec();
        panic!("{error}")
    };
    let Some(padding) = padding else { return again(3 * PAGE) };
    let (start, end) = arguments_lie_at();
    let lost = match which {
        "end" => end - 1,
        // So many letters more, and they begin so many bytes further below.
        "next" if start % PAGE != BEGINS_AT => {
            return again(padding.len() + (start + PAGE - BEGINS_AT) % PAGE);
        }
        "next" => start + PAGE,
        _ => panic!("no page {which}"),
    };
    lose_page(lost / PAGE * PAGE, PAGE);
    let memory = std::hint::black_box(vec![1u8; 200 << 20]);
    panic!("it may have {} bytes", memory.len());
}

/// Addresses of this process's arguments.
fn arguments_lie_at() -> (usize, usize) {
    let stat = fs::read_to_string("/proc/self/stat").expect("this process");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    // The third is the first of these (proc_pid_stat(5)).
    let field = |number: usize| fields[number - 3].parse::<usize>().expect("an address");
    (field(48), field(49))
}

fn start(rules: &str, flags: &[&str]) -> Agent {
    Agent::start_with(rules, &[&LOCAL[..], flags].concat())
}

/// The arguments of a kill's victims, once all are known.
fn arguments(agent: &Agent, kill: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    eventually("the arguments are known", || {
        let text = agent.get(&format!("/api/v1/kills/{}", kill["id"]));
        let whole: Value = serde_json::from_str(&text).unwrap();
        found = whole["arguments"].as_array().cloned().unwrap_or_default();
        !found.is_empty() && found.iter().all(|one| one["missing"] != "waiting")
    });
    say(&format!("{found:?}"));
    found
}

/// Of the only victim.
fn only(agent: &Agent, kill: &Value) -> Value {
    let mut found = arguments(agent, kill);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["pid"], kill["victim"]["pid"]);
    found.remove(0)
}

/// They are in what one kill says, and nowhere else.
fn arguments_of_a_victim() {
    let agent = start(RULES, &["--log-level", "debug"]);
    let matched = Container::start("/matched/c1", 100, &["idle", "hog:200"]);
    let kill = agent.wait_for_kills(1).remove(0);
    let found = only(&agent, &kill);
    assert_eq!(found["text"], "/init role hog 200");
    assert_eq!([&found["cut"], &found["missing"]], [&json!(false), &Value::Null]);
    drop(matched);
    let other = Container::start("/other/c2", 100, &["idle", "hog:201"]);
    let kill = agent.wait_for_kills(2).remove(1);
    eventually("the victim has exited", || agent.kills()[1]["victim"]["exit_seconds"].is_f64());
    let whole = agent.get(&format!("/api/v1/kills/{}", kill["id"]));
    assert!(whole.ends_with(r#""arguments":null}"#), "no rule is for it: {whole}");
    let printed = Command::new("/bin/herder-agent").args(["explain", "1"]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("/init role hog 200"), "{printed}");
    assert_eq!(agent.metric(READ), 1.0);
    assert_eq!(agent.metric("herder_victim_arguments_lost_total"), 0.0);
    for elsewhere in [agent.get("/api/v1/kills"), agent.get("/metrics"), Agent::log()] {
        assert!(!elsewhere.contains("role hog"), "{elsewhere}");
    }
    drop(other);
    // What was kept goes with the rule, and nothing is read any more.
    Agent::reconfigure(MATCHED);
    eventually("the rule is gone", || {
        agent.get("/api/v1/kills/1").ends_with(r#""arguments":null}"#)
    });
    agent.assert_nothing_lost();
}

/// The programs for it are raw tracepoints, which attach everywhere; they need the kernel's types.
fn arguments_without_the_kernels_functions() {
    for (flag, missing) in [("--no-functions", Value::Null), ("--no-btf", json!("not-attached"))] {
        let agent = start(RULES, &[flag]);
        let container = Container::start("/matched/c1", 100, &["idle", "hog:200"]);
        let kill = agent.wait_for_kills(1).remove(0);
        let found = only(&agent, &kill);
        assert_eq!(found["missing"], missing, "{flag}");
        assert_eq!(found["text"].is_string(), missing.is_null(), "{flag}");
        drop((agent, container));
    }
}

/// All victims of a group have theirs.
fn arguments_of_a_group() {
    let agent = start(GROUP, &[]);
    let _container = Container::start("/matched/c1", 100, &["idle", "idle", "hog:200"]);
    let kill = agent.wait_for_kills(1).remove(0);
    assert_eq!(kill["kind"], "group");
    let found = arguments(&agent, &kill);
    // What ends with the init before the kernel comes to it is no victim.
    assert_eq!(found.len(), usize::try_from(kill["processes"].as_u64().unwrap()).unwrap());
    assert!(found.len() >= 2, "{found:?}");
    let tree = "/init role tree /tmp/notes-matched-c1 idle idle hog:200";
    let possible = ["/init role hog 200", "/init role idle", tree];
    for one in &found {
        assert!(possible.iter().any(|text| one["text"] == *text), "{one}");
    }
    assert_eq!(found[0]["text"], possible[0], "the chosen one is the first");
    agent.assert_nothing_lost();
}

/// As `/proc/PID/cmdline` has it, with control characters escaped.
fn arguments_that_a_program_has_rewritten() {
    let agent = start(RULES, &[]);
    let words = ["short-000000000000000000000000000000", "long-1"];
    for (number, word) in words.into_iter().enumerate() {
        let child = format!("titled:{word}");
        let container = Container::start("/matched/c1", 100, &["idle", &child]);
        let kill = agent.wait_for_kills(number + 1).remove(number);
        let found = only(&agent, &kill);
        let said = String::from_utf8(fs::read(format!("/tmp/title-{word}")).unwrap()).unwrap();
        let said = said.trim_end_matches('\0').replace('\x1b', "\\u{1b}");
        assert_eq!(found["text"], said, "{word}");
        assert!(said.starts_with("web: "), "{said}");
        drop(container);
    }
    agent.assert_nothing_lost();
}

/// Nothing waits for a page there. What is in memory is shown.
fn arguments_that_are_not_all_in_memory() {
    let agent = start(RULES, &[]);
    for (number, (which, length)) in
        [("end", 256), ("next", PAGE - BEGINS_AT)].into_iter().enumerate()
    {
        let child = format!("paged:{which}");
        let container = Container::start("/matched/c1", 100, &["idle", &child]);
        let kill = agent.wait_for_kills(number + 1).remove(number);
        let found = only(&agent, &kill);
        let text = found["text"].as_str().unwrap_or_default();
        assert!(text.starts_with(&format!("/init role paged {which} zzz")), "{found}");
        assert_eq!([&json!(text.len()), &found["cut"]], [&json!(length), &json!(true)], "{found}");
        drop(container);
    }
    agent.assert_nothing_lost();
}

/// A process whose first thread has exited, and an init with more than fits.
fn arguments_of_threads_and_inits() {
    let agent = start(RULES, &[]);
    let container = Container::start("/matched/c1", 100, &["idle", "orphan-threads:200"]);
    let kill = agent.wait_for_kills(1).remove(0);
    assert_eq!(only(&agent, &kill)["text"], "/init role orphan-threads 200");
    drop(container);
    let long = "z".repeat(400);
    let container = Container::start_program("/matched/c2", 100, &["hog", "200", &long]);
    let kill = agent.wait_for_kills(2).remove(1);
    assert_eq!(kill["kind"], "init");
    let found = only(&agent, &kill);
    let text = found["text"].as_str().unwrap();
    assert!(text.starts_with("/init role hog 200 zzz") && text.len() == 256, "{text}");
    assert_eq!(found["cut"], true);
    drop(container);
    agent.assert_nothing_lost();
}

/// An agent that everyone can ask does not take up such a rule, neither at its start nor later.
fn arguments_are_not_for_everyone() {
    let why = "/tmp/rules.yaml:2:";
    let mut agent = Agent::spawn(RULES, &[], &capabilities());
    assert!(!agent.wait().success());
    assert!(Agent::log().contains(why) && Agent::log().contains("victimArguments"));
    let check = |flags: &[&str]| {
        let mut check = Command::new("/bin/herder-agent");
        let output = check.args(["check", "--config", "/tmp/rules.yaml"]).args(flags).output();
        let printed = String::from_utf8(output.unwrap().stdout).unwrap();
        printed.lines().find(|line| line.contains("victimArguments  ")).unwrap_or("").to_owned()
    };
    assert!(check(&[]).starts_with("FAIL"), "{}", check(&[]));
    assert!(check(&LOCAL).starts_with("ok"), "{}", check(&LOCAL));
    // The programs are tried, and not only what the kernel says of itself.
    let flags = ["--", "/bin/herder-agent", "check", "--config", "/tmp/rules.yaml"];
    let confined = role("confined", &[&flags[..], &LOCAL].concat()).output().unwrap();
    let printed = String::from_utf8(confined.stdout).unwrap();
    let found = printed.lines().find(|line| line.contains("victimArguments  ")).unwrap_or("");
    assert!(found.starts_with("warn") && found.contains("CAP_BPF"), "{printed}");
    drop(agent);
    let agent = Agent::start(MATCHED);
    Agent::reconfigure(RULES);
    eventually("it is rejected", || {
        agent.metric("herder_config_last_reload_successful") == 0.0 && Agent::log().contains(why)
    });
    let container = Container::start("/matched/c1", 100, &["idle", "hog:200"]);
    agent.wait_for_kills(1);
    assert!(agent.get("/api/v1/kills/1").ends_with(r#""arguments":null}"#));
    drop(container);
}
