//! The real agent, run as a test needs it, and asked over HTTP.

use super::{
    container::Cgroup,
    http::ask,
    role::role,
    say::say,
    wait::{PATIENCE, eventually},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

const CONFIG: &str = "/tmp/rules.yaml";

pub const LOG: &str = "/tmp/agent.log";

/// Rules that match every cgroup right below `/matched`.
pub const MATCHED: &str =
    "rules:\n- {name: matched, cgroups: ['/matched/*'], oomGroup: single-process}\n";

/// Of this machine.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const EBPF: &str = "ebpf";
const COUNTS: &str = "memory-events";

pub struct Agent {
    /// None if this test has not started it.
    child: Option<Child>,
    /// Where it has to read kills from, as `/readyz` names it.
    source: &'static str,
    /// Where it answers: an address of this machine, or its pod's.
    address: IpAddr,
}

impl Agent {
    /// With these rules, and no more capabilities than it needs.
    pub fn start(rules: &str) -> Self {
        Self::start_with(rules, &[])
    }

    /// The same with more flags. Waits until it is ready.
    pub fn start_with(rules: &str, flags: &[&str]) -> Self {
        let mut agent = Self::spawn(rules, flags, &capabilities());
        agent.wait_until_ready();
        agent
    }

    /// Waits until it says that it is ready, and by which source. One that falls back to
    /// counts where its programs should load would pass most tests, on a kernel whose
    /// verifier refuses them.
    pub fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.try_get("/readyz");
            if let Some((200, ready)) = &answer {
                return assert_source(self.source, ready);
            }
            assert!(self.child().try_wait().unwrap().is_none(), "the agent ended");
            assert!(Instant::now() < deadline, "the agent is not ready: {answer:?}");
            sleep(Duration::from_millis(10));
        }
    }

    /// Expects another source than flags and capabilities say.
    pub fn reads(mut self, source: &'static str) -> Self {
        self.source = source;
        self
    }

    /// With only these capabilities; does not wait.
    pub fn spawn(rules: &str, flags: &[&str], capabilities: &[&str]) -> Self {
        let log = File::create(LOG).unwrap();
        let output = [log.try_clone().unwrap().into(), log.into()];
        Self::spawn_with(rules, flags, capabilities, output)
    }

    /// The same in a cgroup, from its first page on. Waits until it is ready.
    pub fn start_in(cgroup: &Cgroup, rules: &str, flags: &[&str]) -> Self {
        let log = File::create(LOG).unwrap();
        let mut command = role("enter", &[cgroup.path(), "confined"]);
        command.args(capabilities());
        let output = [log.try_clone().unwrap().into(), log.into()];
        let mut agent = Self::spawn_by(command, rules, flags, output);
        agent.wait_until_ready();
        agent
    }

    /// The same with its standard output and error elsewhere.
    pub fn spawn_with(
        rules: &str,
        flags: &[&str],
        capabilities: &[&str],
        output: [Stdio; 2],
    ) -> Self {
        let command = role("confined", capabilities);
        let source = source(flags, capabilities);
        Self::spawn_by(command, rules, flags, output).reads(source)
    }

    /// The same by a role that becomes `confined`, with the capabilities that it needs.
    pub fn spawn_by(mut command: Command, rules: &str, flags: &[&str], output: [Stdio; 2]) -> Self {
        let [stdout, stderr] = output;
        fs::write(CONFIG, rules).unwrap();
        command.args(["--", "/bin/herder-agent", "run", "--config", CONFIG]).args(flags);
        command.env("KUBECONFIG", "/tmp/kubeconfig");
        // Which is for other programs.
        command.env("HTTPS_PROXY", "http://127.0.0.1:9");
        command.stdout(stdout).stderr(stderr);
        let child = Some(command.spawn().unwrap());
        Agent { child, source: source(flags, &["bpf"]), address: HERE }
    }

    /// One that this test has not started.
    pub fn of_others() -> Self {
        Self::at(HERE)
    }

    /// The same, at an address of its own.
    pub fn at(address: IpAddr) -> Self {
        Agent { child: None, source: EBPF, address }
    }

    /// Its output, if that is a pipe.
    pub fn output(&mut self) -> ChildStdout {
        self.child().stdout.take().expect("a pipe")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a child").id()
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("a child")
    }

    /// Another configuration.
    pub fn reconfigure(rules: &str) {
        fs::write(CONFIG, rules).unwrap();
    }

    /// Status and body; none while there is no server.
    pub fn try_get(&self, path: &str) -> Option<(u16, String)> {
        ask(&SocketAddr::from((self.address, 9469)).to_string(), path)
    }

    pub fn get(&self, path: &str) -> String {
        // The server cuts a client that is silent for 5 s, and so long the emulator may stand
        // still where the whole guest is short of memory. That answers come is for `clients`.
        let again = || {
            say(&format!("{path} is asked again: no answer came"));
            self.try_get(path)
        };
        let (status, body) = self.try_get(path).or_else(again).expect("an answer");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// All kills that it has reported, oldest first.
    pub fn kills(&self) -> Vec<Value> {
        let mut kills: Vec<Value> = serde_json::from_str(&self.get("/api/v1/kills")).unwrap();
        kills.reverse();
        kills
    }

    /// Waits until so many kills are reported, then a moment for one too many.
    pub fn wait_for_kills(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} kills"), || self.kills().len() >= count);
        sleep(Duration::from_millis(700));
        let kills = self.kills();
        assert_eq!(kills.len(), count, "{kills:#?}");
        kills
    }

    /// The state of a matched container.
    pub fn container(&self, cgroup: &str) -> Option<Value> {
        self.containers().into_iter().find(|container| container["cgroup"] == cgroup)
    }

    /// The states of all.
    pub fn containers(&self) -> Vec<Value> {
        serde_json::from_str(&self.get("/api/v1/containers")).unwrap()
    }

    /// The value of a series, by its text before the value; 0 if it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics");
        let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The sum of all series of a family.
    pub fn total(&self, family: &str) -> f64 {
        let text = self.get("/metrics");
        let lines = text.lines().filter(|line| line.starts_with(family) && !line.starts_with('#'));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// The upper bound of the bucket that the median of a histogram is in.
    pub fn median(&self, histogram: &str) -> String {
        let text = self.get("/metrics");
        let half = self.metric(&format!("{histogram}_count")) / 2.0;
        let prefix = format!("{histogram}_bucket{{le=\"");
        let mut buckets =
            text.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "));
        let bucket = buckets.find(|(_, count)| count.parse::<f64>().unwrap() >= half);
        format!("{histogram}: median at most {} s", bucket.map_or("?", |(bound, _)| bound))
    }

    /// Nothing may be lost in any test.
    pub fn assert_nothing_lost(&self) {
        assert_eq!(self.total("herder_kills_lost_total"), 0.0);
        assert_eq!(self.total("herder_kills_unattributed_total"), 0.0);
        assert_eq!(self.metric(r#"herder_kills_unseen_total{reason="missed"}"#), 0.0);
    }

    /// Ends it as Kubernetes does.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Lets it run no more until it is resumed.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks for the configuration to be read again.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child().try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the agent does not end");
            sleep(Duration::from_millis(10));
        }
    }

    pub fn log() -> String {
        fs::read_to_string(LOG).unwrap_or_default()
    }
}

/// Which source an agent has to have: what a flag names, else programs where it may load any.
fn source(flags: &[&str], capabilities: &[&str]) -> &'static str {
    let asked = flags.iter().skip_while(|flag| **flag != "--source").nth(1);
    match asked.copied() {
        Some(EBPF) => EBPF,
        Some(COUNTS) => COUNTS,
        _ if capabilities.contains(&"bpf") => EBPF,
        _ => COUNTS,
    }
}

fn assert_source(wanted: &str, ready: &str) {
    let named = ready.lines().find_map(|line| line.strip_prefix("source: "));
    assert_eq!(named, Some(wanted), "the agent's source, which logged:\n{}", Agent::log());
}

/// What the agent needs on this kernel. Before 5.11 the memory of eBPF maps is
/// charged to RLIMIT_MEMLOCK, which only CAP_SYS_RESOURCE can raise.
pub fn capabilities() -> Vec<&'static str> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0u32));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    if version < (5, 11) { vec!["bpf", "perfmon", "sys_resource"] } else { vec!["bpf", "perfmon"] }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_the_programs_unless_a_test_asks_for_another() {
        let all = ["bpf", "perfmon"];
        for (flags, capabilities, wanted) in [
            (&["--no-btf"][..], &all[..], EBPF),
            (&["--source", "auto"], &all, EBPF),
            (&["--source", "memory-events"], &all, COUNTS),
            (&["--source", "auto"], &[], COUNTS),
            (&["--source", "ebpf"], &[], EBPF),
            (&[], &["uid=1234"], COUNTS),
        ] {
            assert_eq!(source(flags, capabilities), wanted, "{flags:?} {capabilities:?}");
        }
        assert_source(EBPF, "ok\nsource: ebpf\n");
    }

    #[test]
    #[should_panic = "the agent's source"]
    fn another_source_is_a_failure() {
        assert_source(EBPF, "ok\nsource: memory-events\n");
    }

    #[test]
    #[should_panic = "the agent's source"]
    fn so_is_none() {
        assert_source(COUNTS, "ok\n");
    }
}
