//! How long it takes from a kill until each program shows it: from the kernel's own
//! time of the kill until the line can be read at the other end of the program's
//! output, by the same clock.
//!
//! In turn each program is alone with the kills, so that none waits for another's
//! share of the two processors; then all see the same kills at once.

use super::{
    figures::{found, size, spread},
    lines::{Line, Lines},
    programs::{Herder, Output, Program},
};
use crate::{
    harness::{
        agent::MATCHED,
        container::{Cgroup, Container},
        say::say,
        wait::within,
    },
    runtime::trace::{Seen, Trace, What},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write,
    net::TcpStream,
    process::ExitCode,
    thread::sleep,
    time::Duration,
};

/// As a container's, and as on a user's screen: into a pipe, programs in C write
/// only when 4 KiB are full.
const ALONE: [(Program, Output); 5] = [
    (Program::Herder, Output::Pipe),
    (Program::Oomkill, Output::Terminal),
    (Program::Bpftrace, Output::Terminal),
    (Program::Oomkill, Output::Pipe),
    (Program::Bpftrace, Output::Pipe),
];

const TOGETHER: [(Program, Output); 3] = [ALONE[0], ALONE[1], ALONE[2]];

const HERDER: Herder = Herder { rules: MATCHED, flags: &["--kubernetes", "off"], more: &[] };

/// Between two kills: each is over before the next.
const BETWEEN: Duration = Duration::from_millis(150);

const VICTIMS: &str = "/matched/victims";

/// When a process was killed, nanoseconds of the monotonic clock.
#[derive(Clone, Copy)]
struct Killed {
    /// The kernel had chosen it.
    begun: f64,
    /// The kernel marked it, and sends the signal.
    marked: f64,
}

/// Milliseconds, by who shows and how.
#[derive(Default)]
struct Shown {
    since_mark: Vec<f64>,
    since_begin: Vec<f64>,
    /// Not shown two seconds after the last: held back, or never seen.
    missing: usize,
}

type All = BTreeMap<(bool, String, String), Shown>;

pub fn shown() {
    let (turns, kills) = (size("turns"), size("kills"));
    let trace = Trace::of_kills();
    let mut all = All::new();
    let mut kernel = Vec::new();
    for _ in 0..turns {
        for one in ALONE {
            turn(&[one], kills / turns, &trace, &mut all, &mut kernel);
        }
        turn(&TOGETHER, kills / turns, &trace, &mut all, &mut kernel);
    }
    for ((together, program, output), shown) in all {
        found(&json!({
            "program": program, "output": output, "together": together, "missing": shown.missing,
            "since mark": spread(shown.since_mark), "since begin": spread(shown.since_begin),
        }));
    }
    found(&json!({"program": "kernel", "begin to mark": spread(kernel)}));
}

/// Starts programs, kills, and takes the time.
fn turn(
    programs: &[(Program, Output)],
    kills: usize,
    trace: &Trace,
    all: &mut All,
    kernel: &mut Vec<f64>,
) {
    let running: Vec<_> = programs.iter().map(|(one, to)| (one.start(*to, HERDER), *to)).collect();
    let stream = programs.contains(&ALONE[0]).then(stream);
    trace.clear();
    kill(kills);
    let killed = killed(&trace.seen());
    assert_eq!(killed.len(), kills, "the kernel reports all");
    kernel.extend(killed.values().map(|killed| (killed.marked - killed.begun) / 1e6));
    let together = programs.len() > 1;
    say(&format!("{programs:?}: {kills} kills"));
    let mut take = |program: Program, output: &str, lines: &Lines| {
        let entry = (together, program.name(), output.to_owned());
        all.entry(entry).or_default().take(&killed, &lines.all());
    };
    for (running, output) in &running {
        let output = if *output == Output::Pipe { "pipe" } else { "terminal" };
        take(running.program, output, &running.lines);
    }
    if let Some(stream) = stream {
        take(Program::Herder, "stream of the API", &stream);
    }
}

/// Kills so many processes of a container, one after the other.
fn kill(count: usize) {
    let notes = "/tmp/victims";
    let _ = fs::remove_file(notes);
    let pause = BETWEEN.as_millis().to_string();
    let program = ["victims", notes, &count.to_string(), &pause];
    let container = Container::start_program(VICTIMS, 4, &program);
    // Herder does so too, when it has its turn.
    container.cgroup.set("memory.oom.group", "0");
    within(Duration::from_secs(60 + count as u64), "all are killed", || {
        fs::read_to_string(notes).is_ok_and(|text| text == count.to_string())
    });
    // The slowest may still be about to show the last.
    sleep(Duration::from_secs(2));
    drop(container);
    Cgroup::made(VICTIMS).remove();
}

/// The role: an init whose children are killed with a pause in between.
pub fn victims(rest: &[&str]) -> ExitCode {
    let (notes, numbers) = (rest[0], &rest[1..]);
    let [count, pause] = [0, 1].map(|at| numbers[at].parse::<u64>().expect("a number"));
    for killed in 1..=count {
        sleep(Duration::from_millis(pause));
        assert!(crate::harness::system::child_is_killed(crate::harness::storm::grow));
        fs::write(notes, killed.to_string()).unwrap();
    }
    loop {
        sleep(Duration::from_secs(3600));
    }
}

fn killed(seen: &[Seen]) -> HashMap<u32, Killed> {
    let mut begun = 0.0;
    let mut killed = HashMap::new();
    for Seen { at, what, .. } in seen {
        match what {
            // One after the other, by the kernel's oom_lock.
            What::Begin => begun = at * 1e9,
            What::Mark { pid } => drop(killed.insert(*pid, Killed { begun, marked: at * 1e9 })),
            What::Write { .. } | What::Exec { .. } | What::Fork { .. } | What::Score { .. } => {}
        }
    }
    killed
}

impl Shown {
    fn take(&mut self, killed: &HashMap<u32, Killed>, lines: &[Line]) {
        let mut first = HashMap::new();
        for line in lines {
            if let Some(pid) = victim(&line.text) {
                first.entry(pid).or_insert(line.at as f64);
            }
        }
        for (pid, killed) in killed {
            match first.get(pid) {
                Some(at) => {
                    self.since_mark.push((at - killed.marked) / 1e6);
                    self.since_begin.push((at - killed.begun) / 1e6);
                }
                None => self.missing += 1,
            }
        }
    }
}

/// Who was killed, in any program's words.
fn victim(line: &str) -> Option<u32> {
    let after = [" OOM kill of PID ", " pid=", "\"victim\":{\"pid\":"];
    // Herder's line has the container's pid and the trigger's under other names.
    let (_, rest) = after.iter().find_map(|before| line.split_once(before))?;
    let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// Follows the agent's kills as its page does.
pub(super) fn stream() -> Lines {
    let mut stream = TcpStream::connect("127.0.0.1:9469").unwrap();
    write!(stream, "GET /api/v1/kills/stream HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    Lines::of(stream)
}
