//! Herder and the programs that it is measured against.

use super::{
    lines::{Lines, terminal},
    process::family,
};
use crate::{
    harness::{
        agent::{Agent, capabilities},
        http,
        wait::alive,
    },
    runtime::machine::PATH,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// One compiles its program with LLVM, one looks at every container first, and that
/// in an emulator.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Herder,
    /// libbpf-tools: C, with its program compiled in.
    Oomkill,
    Bpftrace,
    Cadvisor,
    NodeExporter,
    /// The DaemonSet that is commonly given as an answer: a shell that writes 0
    /// everywhere, and sleeps so many seconds.
    Loop(u32),
}

/// Where standard output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The same as standard error.
    File,
    /// As a container's goes to its runtime.
    Pipe,
    Terminal,
}

/// One that runs until this is dropped.
pub struct Running {
    pub program: Program,
    process: Process,
    /// What it prints.
    pub lines: Lines,
}

enum Process {
    Agent(Agent),
    Child(Child),
}

/// Rules and flags for Herder, and the capabilities that it has besides those that it needs.
#[derive(Clone, Copy)]
pub struct Herder {
    pub rules: &'static str,
    pub flags: &'static [&'static str],
    pub more: &'static [&'static str],
}

impl Program {
    pub fn name(self) -> String {
        match self {
            Program::Herder => "herder".into(),
            Program::Oomkill => "oomkill".into(),
            Program::Bpftrace => "bpftrace".into(),
            Program::Cadvisor => "cadvisor".into(),
            Program::NodeExporter => "node_exporter".into(),
            Program::Loop(seconds) => format!("shell loop, sleep {seconds}"),
        }
    }

    /// Where it serves its metrics.
    pub fn metrics(self) -> Option<u16> {
        match self {
            Program::Herder => Some(9469),
            Program::Cadvisor => Some(8080),
            Program::NodeExporter => Some(9100),
            Program::Oomkill | Program::Bpftrace | Program::Loop(_) => None,
        }
    }

    fn log(self) -> String {
        format!("/tmp/{self:?}.log")
    }

    /// Its last words.
    fn said(self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// As its package or its authors have it run.
    fn command(self) -> Command {
        let (program, arguments) = match self {
            Program::Herder => unreachable!("it is started with its capabilities"),
            Program::Oomkill => ("oomkill-libbpf", vec![]),
            Program::Bpftrace => ("bpftrace", vec!["/usr/sbin/oomkill.bt".into()]),
            Program::Cadvisor => ("cadvisor", vec!["--port=8080".into(), "--logtostderr".into()]),
            Program::NodeExporter => ("prometheus-node-exporter", vec![]),
            Program::Loop(seconds) => ("busybox", vec!["sh".into(), "-c".into(), text(seconds)]),
        };
        let mut command = Command::new(program);
        command.args(arguments).env("PATH", PATH).stdin(Stdio::null());
        command
    }

    /// Starts it, and waits until it does what it is for.
    pub fn start(self, to: Output, herder: Herder) -> Running {
        let running = self.begin(to, herder);
        assert!(running.ready_in_time(), "{} is not ready: {}", self.name(), self.said());
        if self.metrics().is_none() {
            // What it has attached last cannot be seen from outside.
            sleep(Duration::from_secs(1));
        }
        running
    }

    /// Starts it.
    pub fn begin(self, to: Output, herder: Herder) -> Running {
        let log = fs::File::create(self.log()).unwrap();
        let (stdout, on_terminal) = match to {
            Output::File => (log.try_clone().unwrap().into(), None),
            Output::Pipe => (Stdio::piped(), None),
            Output::Terminal => {
                let (stdout, lines) = terminal();
                (stdout, Some(lines))
            }
        };
        let (process, piped) = if self == Program::Herder {
            let output = [stdout, log.into()];
            let allowed = [&capabilities(), herder.more].concat();
            let mut agent = Agent::spawn_with(herder.rules, herder.flags, &allowed, output);
            let piped = (to == Output::Pipe).then(|| agent.output());
            (Process::Agent(agent), piped)
        } else {
            let mut child = self.command().stdout(stdout).stderr(log).spawn().unwrap();
            let piped = child.stdout.take();
            (Process::Child(child), piped)
        };
        let lines = on_terminal.or_else(|| piped.map(Lines::of)).unwrap_or_default();
        Running { program: self, process, lines }
    }
}

/// What the DaemonSet's container runs, with the path that cgroups of pods have here.
fn text(seconds: u32) -> String {
    format!(
        "while true; do \
           for f in $(find /sys/fs/cgroup/kubepods/ -name memory.oom.group); do \
             echo 0 > \"$f\"; \
           done; \
           sleep {seconds}; \
         done"
    )
}

impl Running {
    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Agent(agent) => agent.pid(),
            Process::Child(child) => child.id(),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a pid");
        kill_process(pid, signal).unwrap();
    }

    /// The body of its metrics.
    pub fn scrape(&self) -> Option<String> {
        http::get(self.program.metrics()?, "/metrics")
    }

    /// Waits until it does what it is for, as far as it can be seen from outside;
    /// whether it ever did.
    pub fn ready_in_time(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !self.ready() {
            if Instant::now() > deadline || !alive(self.pid()) {
                return false;
            }
            sleep(Duration::from_millis(5));
        }
        true
    }

    fn ready(&self) -> bool {
        match self.program {
            Program::Herder => http::get(9469, "/readyz").is_some(),
            Program::Cadvisor => http::get(8080, "/healthz").is_some(),
            Program::NodeExporter => http::get(9100, "/").is_some(),
            Program::Loop(_) => true,
            // What they print at their start may still be in a buffer of theirs.
            Program::Oomkill | Program::Bpftrace => attached(self.pid()),
        }
    }
}

/// Whether a process has a program attached to something.
fn attached(pid: u32) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let names = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    names
        .map(|name| name.display().to_string())
        .any(|name| name.contains("perf") || name.contains("link"))
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Process::Child(child) = &mut self.process {
            // It may have ended by itself, and with it those that it started.
            for pid in family(child.id()) {
                let pid = Pid::from_raw(pid.cast_signed());
                let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
            }
            let _ = child.wait();
        }
    }
}
