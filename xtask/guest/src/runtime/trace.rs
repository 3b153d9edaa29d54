//! What the kernel saw and when, from its trace buffer: every write to a
//! memory.oom.group and every program that was started, every OOM kill, or every `oom_score_adj`.

use std::fs;

const TRACING: &str = "/sys/kernel/tracing";

/// `memory_oom_group_write(of, buf, nbytes, off)` (mm/memcontrol.c), with the id of
/// the cgroup that the file is in.
const PROBE: &str =
    "p:herder/oom_group memory_oom_group_write id=of->kn->parent->id:u64 value=+0($arg2):string";

const EVENTS: &[&str] =
    &["events/herder/oom_group/enable", "events/sched/sched_process_exec/enable"];

/// Where the kernel begins to kill, which others trace too, and where it has.
const PROBE_OF_KILLS: &str = "p:herder/oom_begin oom_kill_process";

const EVENTS_OF_KILLS: &[&str] =
    &["events/herder/oom_begin/enable", "events/oom/mark_victim/enable"];

/// What is born with which `oom_score_adj`, and what is given another.
const EVENTS_OF_SCORES: &[&str] =
    &["events/task/task_newtask/enable", "events/oom/oom_score_adj_update/enable"];

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Write {
        cgroup: u64,
        value: String,
    },
    Exec {
        file: String,
    },
    /// The kernel has chosen a victim.
    Begin,
    /// It has marked one, or another member of its group, and sends the signal.
    Mark {
        pid: u32,
    },
    /// A process, or a thread, was made.
    Fork {
        pid: u32,
        score: i32,
    },
    /// A process was given another `oom_score_adj`.
    Score {
        pid: u32,
        score: i32,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Seconds of the monotonic clock.
    pub at: f64,
    /// Who did it.
    pub comm: String,
    pub what: What,
}

/// A recording that ends when it is dropped.
pub struct Trace(&'static [&'static str]);

impl Trace {
    pub fn start() -> Self {
        Self::of(PROBE, EVENTS)
    }

    pub fn of_kills() -> Self {
        Self::of(PROBE_OF_KILLS, EVENTS_OF_KILLS)
    }

    pub fn of_scores() -> Self {
        Self::of("", EVENTS_OF_SCORES)
    }

    fn of(probe: &str, events: &'static [&'static str]) -> Self {
        write("trace_clock", "mono");
        write("buffer_size_kb", "4096");
        write("trace", "");
        write("kprobe_events", probe);
        for event in events {
            write(event, "1");
        }
        Trace(events)
    }

    /// Forgets what was seen.
    pub fn clear(&self) {
        write("trace", "");
    }

    /// All that was seen, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        let text = fs::read_to_string(format!("{TRACING}/trace")).unwrap();
        let mut seen: Vec<_> = text.lines().filter_map(parse).collect();
        seen.sort_by(|one, other| one.at.total_cmp(&other.at));
        seen
    }
}

fn write(file: &str, text: &str) {
    fs::write(format!("{TRACING}/{file}"), text)
        .unwrap_or_else(|error| panic!("{file}: {text:?}: {error}"));
}

impl Drop for Trace {
    fn drop(&mut self) {
        for event in self.0 {
            let _ = fs::write(format!("{TRACING}/{event}"), "0");
        }
        let _ = fs::write(format!("{TRACING}/kprobe_events"), "");
    }
}

/// `  runc-93  [001] d..2.  12.345678: oom_group: (memory_oom_group_write+0x0/0xb0)
/// id=210 value="1"`; the value may end with a line break.
fn parse(line: &str) -> Option<Seen> {
    let (head, event) = line.split_once(": ")?;
    let at = head.split_whitespace().last()?.parse().ok()?;
    let (comm, _) = head.split_once(" [")?;
    let (comm, _) = comm.trim().rsplit_once('-')?;
    let (name, rest) = event.split_once(": ")?;
    let field = |name: &str| rest.split_once(name).map(|(_, rest)| rest);
    let number = |name: &str| field(name)?.split(' ').next()?.trim().parse::<i64>().ok();
    let process = || u32::try_from(number("pid=")?).ok();
    let score = || i32::try_from(number("oom_score_adj=")?).ok();
    let what = match name {
        "oom_group" => What::Write {
            cgroup: field("id=")?.split(' ').next()?.parse().ok()?,
            value: field("value=\"")?.trim_end_matches('"').trim().to_owned(),
        },
        "sched_process_exec" => {
            What::Exec { file: field("filename=")?.split(' ').next()?.to_owned() }
        }
        "oom_begin" => What::Begin,
        "mark_victim" => What::Mark { pid: process()? },
        "task_newtask" => What::Fork { pid: process()?, score: score()? },
        "oom_score_adj_update" => What::Score { pid: process()?, score: score()? },
        _ => return None,
    };
    Some(Seen { at, comm: comm.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_read() {
        for (line, what) in [
            (
                "init-93  [000] .....  12.345678: task_newtask: pid=94 comm=init clone_flags=1200000 oom_score_adj=-1000",
                What::Fork { pid: 94, score: -1000 },
            ),
            (
                "shield-80  [000] .....  12.345678: oom_score_adj_update: pid=94 comm=init oom_score_adj=300",
                What::Score { pid: 94, score: 300 },
            ),
        ] {
            let seen = parse(line).expect("an event");
            assert_eq!((seen.at, seen.what), (12.345_678, what));
        }
    }
}
