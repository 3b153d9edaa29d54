//! What the kernel counts of the eBPF programs that a process has (`kernel.bpf_stats_enabled`).
//!
//! The clock goes on by a nanosecond with each instruction, so that a program's time is a count
//! of them. Some are the kernel's, which reads its clock before and after each run.

use std::{collections::HashMap, fs};

/// How long a program ran, and how often.
#[derive(Clone, Copy, Debug, Default)]
pub struct Runs {
    pub time: u64,
    pub count: u64,
}

impl Runs {
    /// What came after an earlier look.
    pub fn since(self, before: Self) -> Self {
        Runs { time: self.time - before.time, count: self.count - before.count }
    }

    /// Instructions of one run.
    pub fn each(self) -> f64 {
        self.time as f64 / self.count as f64
    }
}

/// The runs of each program that a process holds, by the program's id.
pub fn programs(pid: u32) -> HashMap<u64, Runs> {
    let run = |text: &String| {
        let runs = Runs { time: number(text, "run_time_ns")?, count: number(text, "run_cnt")? };
        Some((number(text, "prog_id")?, runs))
    };
    descriptors(pid).iter().filter_map(run).collect()
}

/// The same of those that are attached to raw tracepoints, by the tracepoint's name.
pub fn tracepoints(pid: u32) -> HashMap<String, Runs> {
    let programs = programs(pid);
    let attached = |text: &String| {
        let runs = programs.get(&number(text, "prog_id")?)?;
        Some((value(text, "tp_name")?.to_owned(), *runs))
    };
    descriptors(pid).iter().filter_map(attached).collect()
}

/// What the kernel says of each of its descriptors.
fn descriptors(pid: u32) -> Vec<String> {
    let directory = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("its descriptors");
    directory.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect()
}

fn number(text: &str, name: &str) -> Option<u64> {
    value(text, name)?.parse().ok()
}

fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(found.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_says_what_it_is() {
        let link = "pos:\t0\nlink_type:\traw_tracepoint\nprog_id:\t31\ntp_name:\tsignal_deliver\n";
        assert_eq!((number(link, "prog_id"), number(link, "run_cnt")), (Some(31), None));
        assert_eq!(value(link, "tp_name"), Some("signal_deliver"));
    }
}
