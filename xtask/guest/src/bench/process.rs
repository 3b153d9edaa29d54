//! What the kernel says of a program and of all that it has started.

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
};

/// A process with its children, and theirs.
pub fn family(pid: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        if let Some(parent) = status(pid, "PPid") {
            children.entry(u32::try_from(parent).unwrap()).or_default().push(pid);
        }
    }
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(pid) = family.get(next) {
        family.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    family
}

/// A number of `/proc/PID/status`; memory is in KiB there.
fn status(pid: u32, name: &str) -> Option<u64> {
    number(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, name)
}

fn number(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// Memory of a program, KiB: what is resident, what of that is its own, the most
/// that there ever was, and what its eBPF programs and maps take in the kernel.
pub fn memory(pid: u32) -> Value {
    let family = family(pid);
    let sum = |name| family.iter().filter_map(|pid| status(*pid, name)).sum::<u64>();
    json!({
        "resident": sum("VmRSS"), "anonymous": sum("RssAnon"), "peak": sum("VmHWM"),
        "kernel": family.iter().map(|pid| in_kernel(*pid)).sum::<u64>() >> 10,
        "processes": family.len(),
    })
}

/// Bytes that the kernel has charged for the eBPF maps and programs whose
/// descriptors a process has.
fn in_kernel(pid: u32) -> u64 {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return 0 };
    let mut each = BTreeMap::new();
    for descriptor in descriptors.flatten() {
        let Ok(text) = fs::read_to_string(descriptor.path()) else { continue };
        let id = ["map_id", "prog_id"].map(|name| number(&text, name));
        if let Some(bytes) = number(&text, "memlock") {
            each.insert(id, bytes);
        }
    }
    each.into_values().sum()
}

/// What a program did so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Nanoseconds of CPU.
    pub cpu: u64,
    /// How often one of its threads had nothing to do and slept.
    pub slept: u64,
}

impl Work {
    pub fn of(pid: u32) -> Self {
        let mut work = Work::default();
        for pid in family(pid) {
            let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for thread in threads.flatten() {
                let read = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
                let cpu = read("schedstat");
                work.cpu += cpu.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
                work.slept += number(&read("status"), "voluntary_ctxt_switches").unwrap_or(0);
            }
        }
        work
    }
}
