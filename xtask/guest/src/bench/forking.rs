//! A container whose init forks when it is asked to, and says what that cost it.

use super::counted::{BURSTS, fork_and_exit, rest, wait_for};
use crate::harness::{
    container::{Cgroup, Container},
    system::forked,
    wait::{eventually, monotonic},
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    process::ExitCode,
    thread::sleep,
    time::Duration,
};

const PATH: &str = "/matched/forking";
const SOCKET: &str = "/tmp/forking";

/// The score that the init has by itself.
const OWN: &str = "300";

/// Children of a storm that live at the same time.
const AT_ONCE: usize = 8;

/// What a child takes as fast as it can.
const MEBIBYTES: usize = 2;

/// The container, asked by the bench outside of it.
pub struct Forking {
    container: Container,
    stream: BufReader<UnixStream>,
}

impl Forking {
    pub fn start() -> Self {
        let _ = fs::remove_file(SOCKET);
        let container = Container::start_program(PATH, 512, &["forking"]);
        let mut stream = None;
        eventually("the init answers", || {
            stream = UnixStream::connect(SOCKET).ok();
            stream.is_some()
        });
        Forking { container, stream: BufReader::new(stream.expect("a stream")) }
    }

    /// Has it do something so often.
    pub fn ask(&mut self, what: &str, times: usize) -> Value {
        writeln!(self.stream.get_mut(), "{what} {times}").expect("it is asked");
        let mut answer = String::new();
        self.stream.read_line(&mut answer).expect("an answer");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Waits until its init is exempt from OOM kills.
    pub fn wait_until_protected(&self) {
        let init = self.container.init();
        eventually("the init is protected", || score(init) == "-1000");
    }

    /// Those in it that are exempt from OOM kills, but the init.
    pub fn exempt(&self) -> usize {
        let init = self.container.init();
        let processes = self.container.cgroup.processes().into_iter();
        processes.filter(|pid| *pid != init && score(*pid) == "-1000").count()
    }

    /// Ends it.
    pub fn end(self) {
        drop(self.container);
        Cgroup::made(PATH).remove();
    }
}

fn score(pid: u32) -> String {
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default();
    score.trim().to_owned()
}

/// Its init.
pub fn init() -> ExitCode {
    fs::write("/proc/self/oom_score_adj", OWN).expect("a score");
    let listener = UnixListener::bind(SOCKET).expect("a socket");
    let (stream, _) = listener.accept().expect("the bench's connection");
    let mut lines = BufReader::new(stream);
    let mut staying = Vec::new();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).expect("a question");
        let (what, times) = line.trim().split_once(' ').expect("what, and how often");
        let times: usize = times.parse().expect("a number");
        let answer = match what {
            "count" => {
                (0..times).flat_map(|_| (0..BURSTS).map(|_| fork_and_exit())).collect::<Vec<_>>()
            }
            "wait" => (0..times).map(|_| child_that_waits()).collect(),
            "grow" => (0..times).map(|_| child_that_grows()).collect(),
            "storm" => storm(times),
            "stay" => {
                let began = monotonic();
                staying.extend((0..times).map(|_| forked(|| rest())));
                vec![since(began)]
            }
            "end" => {
                staying.drain(..).for_each(end);
                vec![]
            }
            other => panic!("no {other}"),
        };
        writeln!(lines.get_mut(), "{}", json!(answer)).expect("it is answered");
    }
}

/// One that has nothing to do, on a processor that has nothing else to do. Milliseconds.
fn child_that_waits() -> f64 {
    let began = monotonic();
    let child = forked(|| rest());
    sleep(Duration::from_millis(20));
    end(child);
    since(began)
}

fn end(child: Pid) {
    kill_process(child, Signal::KILL).expect("a signal");
    wait_for(child);
}

/// One that takes memory at once. Milliseconds that it lived for.
fn child_that_grows() -> f64 {
    let began = monotonic();
    wait_for(forked(grow));
    since(began)
}

/// Many of those, each forked as soon as there is room for it. Milliseconds of all.
fn storm(times: usize) -> Vec<f64> {
    let began = monotonic();
    for child in 0..times {
        if child >= AT_ONCE {
            wait(WaitOptions::empty()).expect("an end");
        }
        forked(grow);
    }
    while wait(WaitOptions::empty()).is_ok() {}
    vec![since(began)]
}

fn grow() {
    let mut memory = Vec::with_capacity(MEBIBYTES);
    for _ in 0..MEBIBYTES {
        memory.push(vec![1u8; 1 << 20]);
    }
    std::hint::black_box(&memory);
}

fn since(began: u64) -> f64 {
    (monotonic() - began) as f64 / 1e6
}
