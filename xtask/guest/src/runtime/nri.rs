//! The runtime asks the agent before it makes a container: real containerd, driven
//! as the kubelet drives it, without an API server.
//!
//! The suite's containerd is as Debian ships it: 2.1 has NRI on, 1.7 has it off, and
//! both are shown as they are. What needs NRI is switched on in 1.7.

mod plugin;
pub mod updates;

use super::{
    bundle::{DB, WEB, object},
    cri::{Namespaces, Resources, Running, Sandbox, Setup},
    nri::plugin::{agent, answers, by_default, is_connected, ones, with_nri},
    systemd::property,
    trace::Trace,
    web::RULES,
};
use crate::harness::{agent::Agent, api::Api, parameter::parameter, say::say, wait::eventually};
use std::{
    fs,
    os::unix::{fs::symlink, process::CommandExt},
    path::Path,
    process::{Command, ExitCode},
    thread::{self, sleep},
    time::{Duration, Instant},
};

const SUBPROCESS: &[&str] = &["tree", "/notes/deaths", "idle", "later:100"];

/// As many as `--starts` says: what the OCI runtime is given, and what the program
/// finds as its first deed.
pub fn creations(systemd: bool) {
    let setup = Setup::new(systemd);
    let _daemon = setup.start();
    // Where the runtime names no container, the API server does.
    let api = (!by_default()).then(|| Api::serve(&[object(WEB, &[])]));
    let names: &[&str] = if api.is_some() { &["--node-name", "node-1"] } else { &[] };
    let kubernetes = if api.is_some() { "on" } else { "off" };
    let flags = [&["--nri", "on", "--kubernetes", kubernetes], names].concat();
    let agent = Agent::start_with(RULES, &flags);
    if by_default() {
        eventually("it is connected", || is_connected(&agent));
    } else {
        eventually("it says so", || Agent::log().contains("No NRI"));
        say(Agent::log().lines().find(|line| line.contains("No NRI")).unwrap());
        let check = Command::new("/bin/herder-agent").args(["check", "--nri", "on"]).output();
        let said = String::from_utf8(check.unwrap().stdout).unwrap();
        say(said.lines().find(|line| line.contains("NRI")).unwrap());
    }
    let trace = Trace::start();
    let (web, db) = (Sandbox::run(setup, WEB), Sandbox::run(setup, DB));
    let looked = started(&web);
    let other = db.start("postgres", 0, 64, &["look-and-stay", "/notes"]);
    assert_eq!((other.value_in_spec().as_str(), &*looked_at(&other).0), ("1", "1"), "unmatched");
    let wanted = if by_default() { "0" } else { "1" };
    let right = looked.iter().filter(|one| one.in_spec == wanted && one.in_file == "0").count();
    let mut took: Vec<_> = looked.iter().map(|one| one.took.as_millis()).collect();
    took.sort_unstable();
    say(&format!(
        "{right} of {}: {wanted} in the spec, 0 at the first instruction; a creation took {} ms (median)",
        looked.len(),
        took[took.len() / 2]
    ));
    let resident = agent.metric("process_resident_memory_bytes") / f64::from(1 << 20);
    say(&format!("{resident:.1} MiB resident"));
    assert_eq!(right, looked.len());
    let writes = agent.total("herder_oom_group_writes_total");
    let count = looked.len() as f64;
    if by_default() {
        print_answers(&agent);
        print_cpu(&agent);
        let ones = ones(&trace, |id| looked.iter().any(|one| one.cgroup == id));
        assert_eq!((writes, ones), (0.0, 0));
        assert_eq!(answers(&agent, "set"), count);
        assert_eq!((answers(&agent, "unmatched"), answers(&agent, "error")), (1.0, 0.0));
    } else {
        assert_eq!(writes, count, "by their cgroups");
    }
}

/// What became of a new container.
struct Looked {
    in_spec: String,
    in_file: String,
    cgroup: u64,
    took: Duration,
}

/// Starts as many containers as `--starts` says, some at the same time.
fn started(sandbox: &Sandbox) -> Vec<Looked> {
    const AT_ONCE: u32 = 4;
    let count: u32 = parameter("starts").map_or(5, |count| count.parse().unwrap());
    // The kubelet makes no two of one name at once: a second one is made when the first failed.
    let start = |first: u32, number| {
        let name = format!("worker-{first}");
        let container = sandbox.start(&name, number, 64, &["look-and-stay", "/notes"]);
        let (in_file, cgroup) = looked_at(&container);
        let in_spec = container.value_in_spec();
        let took = container.took;
        container.remove();
        Looked { in_spec, in_file, cgroup, took }
    };
    let all_of = |first: u32| {
        (first..count)
            .step_by(AT_ONCE as usize)
            .map(|number| start(first, number))
            .collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..AT_ONCE).map(|first| scope.spawn(move || all_of(first))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// How long the answers took.
fn print_answers(agent: &Agent) {
    let of = |what: &str| agent.metric(&format!("herder_nri_answer_seconds_{what}"));
    let count = of("count");
    let quick = of("bucket{le=\"0.005\"}");
    say(&format!(
        "{quick} of {count} answers within 5 ms, {:.2} ms on average",
        of("sum") / count * 1e3
    ));
}

/// CPU time of the thread that answers, for each: with the connection's own.
fn print_cpu(agent: &Agent) {
    let threads = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().flatten();
    let read = |path: &Path, name| fs::read_to_string(path.join(name)).unwrap_or_default();
    let mut paths = threads.map(|thread| thread.path());
    let own = paths.find(|path| read(path, "comm").trim() == "nri").expect("a thread of its own");
    let spent: f64 = read(&own, "schedstat").split(' ').next().unwrap().parse().unwrap();
    let answers = agent.metric("herder_nri_answer_seconds_count");
    say(&format!("{:.3} ms of CPU for each of {answers} answers", spent / 1e6 / answers));
}

/// The value and the cgroup that a program found.
fn looked_at(container: &Running) -> (String, u64) {
    let note = container.note("looked");
    let (value, cgroup) = note.split_once(' ').unwrap();
    (value.to_owned(), cgroup.parse().unwrap())
}

/// The agent stands still, and then is killed, while the runtime waits for it; and so
/// the container is made without it, and corrected by the next agent.
pub fn killed_agent(systemd: bool) {
    let setup = with_nri(systemd);
    let _daemon = setup.start();
    let first = agent("on");
    eventually("it is connected", || is_connected(&first));
    let web = Sandbox::run(setup, WEB);
    first.pause();
    let stuck = web.start("worker", 0, 64, &["idle"]);
    say(&format!("while the agent stood still a creation took {} ms", stuck.took.as_millis()));
    assert_eq!(stuck.value_in_spec(), "1");
    first.resume();
    eventually("it connects again", || is_connected(&first) && stuck.cgroup().oom_group() == "0");
    first.pause();
    let made = thread::scope(|scope| {
        let made = scope.spawn(|| web.start("worker", 1, 64, &["idle"]));
        sleep(Duration::from_millis(500));
        drop(first);
        made.join().unwrap()
    });
    say(&format!("while the agent was killed a creation took {} ms", made.took.as_millis()));
    assert_eq!((made.value_in_spec().as_str(), &*made.cgroup().oom_group()), ("1", "1"));
    let before = settings(&made);
    let next = agent("on");
    eventually("the next one corrects it", || made.cgroup().oom_group() == "0");
    eventually("and knows its name", || {
        next.container(made.cgroup().path()).is_some_and(|it| it["owner"]["container"] == "worker")
    });
    say(&format!("at its connection {} containers were updated", answers(&next, "set")));
    assert_eq!(settings(&made), before, "and nothing else was changed");
    let trace = Trace::start();
    let cpus = Resources { cpu_shares: 512, ..Resources::default() };
    made.update(cpus).unwrap();
    let ones = ones(&trace, |id| id == made.cgroup().id());
    say(&format!("an update of its CPUs then wrote 1 {ones} times"));
    assert_eq!(made.cgroup().oom_group(), "0");
}

/// What an update could have changed beside the value.
fn settings(container: &Running) -> Vec<String> {
    let files = ["memory.max", "memory.swap.max", "cpu.weight", "cpu.max", "pids.max"];
    let read = |file: &str| fs::read_to_string(container.cgroup().file(file)).unwrap_or_default();
    files.into_iter().map(read).collect()
}

/// A container whose command is not there is made again and again, as the kubelet does. No
/// other plugin is to blame for it, and when it starts at last, it has the rule's value.
pub fn failed_starts(systemd: bool) {
    let setup = with_nri(systemd);
    let _daemon = setup.start();
    let agent = agent("on");
    eventually("it is connected", || is_connected(&agent));
    let web = Sandbox::run(setup, WEB);
    for number in 0..4 {
        let resources = Resources::limited(64);
        let missing = web.create_program("worker", number, resources, &["/not-there"]);
        let error = missing.try_start().unwrap_err();
        assert!(error.message().contains("not-there"), "{error}");
        missing.remove();
    }
    let found = web.start("worker", 4, 64, &["look-and-stay", "/notes"]);
    assert_eq!((looked_at(&found).0.as_str(), &*found.value_in_spec()), ("0", "0"));
    assert_eq!((answers(&agent, "set"), answers(&agent, "conflict")), (5.0, 0.0));
    let connected = r#"herder_nri_connections_total{result="connected"}"#;
    assert_eq!(agent.metric(connected), 1.0);
}

pub fn restarted_runtime(systemd: bool) {
    let setup = with_nri(systemd);
    // Before the sandbox, which needs it to be removed.
    let mut daemon = Some(setup.start());
    let agent = agent("on");
    eventually("it is connected", || is_connected(&agent));
    let web = Sandbox::run(setup, WEB);
    let worker = web.start("worker", 0, 64, &["idle"]);
    drop(daemon.take());
    eventually("that is exported", || !is_connected(&agent));
    assert_eq!(worker.cgroup().oom_group(), "0");
    daemon.replace(setup.start());
    let began = Instant::now();
    eventually("it is connected again", || is_connected(&agent));
    say(&format!("connected {} ms after the runtime had its image", began.elapsed().as_millis()));
    if !by_default() {
        // containerd 1.7 asks a plugin nothing until it has made the changes that the
        // plugin wanted at the connection, but makes containers meanwhile.
        sleep(Duration::from_secs(5));
    }
    let next = web.start("worker", 1, 64, &["look-and-stay", "/notes"]);
    assert_eq!((looked_at(&next).0.as_str(), &*next.value_in_spec()), ("0", "0"));
    assert_eq!(agent.total("herder_oom_group_writes_total"), 0.0);
}

/// What runc does from its next releases on: it has systemd kill the whole scope where
/// the value is 1. Without NRI the agent can only say so; with it the value is 0, and
/// the container outlives its child.
pub fn next_runc() {
    let _ = symlink(crate::harness::role::SELF, NEXT_RUNC);
    let setup = Setup { runc: NEXT_RUNC, ..with_nri(true) };
    let _daemon = setup.start();
    for (number, nri) in [(0, "off"), (1, "on")] {
        let agent = agent_of(nri);
        if nri == "on" {
            eventually("it is connected", || is_connected(&agent));
        }
        let web = Sandbox::run(setup, WEB);
        let worker = web.start("worker", number, 60, SUBPROCESS);
        let not_enforceable =
            || agent.metric(r#"herder_not_enforceable{reason="systemd-oom-policy"}"#);
        eventually("it is steered", || agent.container(worker.cgroup().path()).is_some());
        let policy = property(&worker.scope(), "OOMPolicy");
        let value = worker.cgroup().oom_group();
        let expected = if nri == "on" { ("continue", 0.0) } else { ("kill", 1.0) };
        eventually("that is exported", || not_enforceable() == expected.1);
        assert_eq!((policy.as_str(), &*value), (expected.0, "0"));
        eventually("a kill is reported", || !agent.kills().is_empty());
        let kill = agent.kills().remove(0);
        assert_eq!(kill["kind"], "subprocess");
        assert_eq!(kill["container"].as_str(), Some("worker").filter(|_| nri == "on"));
        // systemd 257 takes much less.
        sleep(Duration::from_secs(8));
        let left = worker.cgroup().processes().len();
        let state = property(&worker.scope(), "SubState");
        say(&format!(
            "--nri {nri}: OOMPolicy={policy}, memory.oom.group={value}, one killed: {left} others live on, the scope is {state}"
        ));
        if nri == "on" {
            assert_eq!((left, state.as_str()), (2, "running"), "the init and the idle child");
        } else if !by_default() {
            // The init of a pid namespace may ignore SIGTERM; SIGKILL comes 90 s later.
            assert!(left < 2 && state != "running", "systemd 257 ends them: {left} are left");
        }
    }
}

/// With rules that need no API server, which `--nri off` leaves without names: by path.
fn agent_of(nri: &str) -> Agent {
    let paths = format!("{RULES}{BY_PATH}");
    Agent::start_with(&paths, &["--kubernetes", "off", "--nri", nri])
}

const BY_PATH: &str = "- {name: path, cgroups: ['/kubepods.slice/**/cri-containerd-*.scope'], oomGroup: single-process}\n";

/// Where containerd finds it.
const NEXT_RUNC: &str = "/run/runc-next";

/// Adds to a new container's spec what opencontainers/cgroups adds from 0.0.8 on
/// (`UnifiedManager.Apply()`), and then is the real runc.
pub fn as_next_runc(arguments: &[String]) -> ExitCode {
    let bundle = arguments.iter().position(|argument| argument == "--bundle");
    if let Some(bundle) = bundle.and_then(|at| arguments.get(at + 1)) {
        let file = Path::new(bundle).join("config.json");
        let text = fs::read_to_string(&file).unwrap();
        let mut spec: serde_json::Value = serde_json::from_str(&text).unwrap();
        let value = &spec["linux"]["resources"]["unified"]["memory.oom.group"];
        let policy = match value.as_str() {
            Some("1") => Some("'kill'"),
            Some("0") => Some("'continue'"),
            _ => None,
        };
        if let Some(policy) = policy {
            spec["annotations"]["org.systemd.property.OOMPolicy"] = policy.into();
            fs::write(&file, spec.to_string()).unwrap();
        }
    }
    panic!("{}", Command::new("runc").args(arguments).exec());
}

/// In the node's pid namespace no process is number 1; the runtime names the container's
/// init.
pub fn init_in_the_nodes_namespace(systemd: bool) {
    let setup = with_nri(systemd);
    let _daemon = setup.start();
    let agent = agent("on");
    eventually("it is connected", || is_connected(&agent));
    let web = Sandbox::run_with(setup, WEB, Namespaces::NODES_PIDS);
    let worker = web.start("worker", 0, 60, &["greedy-init", "100"]);
    eventually("a kill is reported", || !agent.kills().is_empty());
    let kill = agent.kills().remove(0);
    assert_eq!([&kill["kind"], &kill["namespace"], &kill["pod"]], ["init", "shop", WEB.name]);
    drop(worker);
}
