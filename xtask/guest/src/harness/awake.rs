//! When the machine stood still. An emulated processor does, for longer than what is looked at takes,
//! while the host has other things to do; what then comes late says nothing about the agent.
//!
//! On each processor a thread that comes before everything else sleeps a little, again and again. If
//! it is woken late, nothing else ran there either.

use super::{system::run_before_all, wait::monotonic};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::{
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::Duration,
};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(2);

/// What is late by more than this has not been awake, nanoseconds.
const LATE: u64 = 5_000_000;

/// Looks until it is asked.
pub struct Watch {
    ends: Arc<AtomicBool>,
    stalls: Arc<Mutex<Vec<(u64, u64)>>>,
    threads: Vec<JoinHandle<()>>,
}

/// When the machine stood still, from when to when.
#[derive(Default)]
pub struct Stalls(Vec<(u64, u64)>);

impl Watch {
    pub fn start() -> Self {
        let all = sched_getaffinity(None).unwrap();
        let mut watch = Watch { ends: Arc::default(), stalls: Arc::default(), threads: Vec::new() };
        for processor in (0..CpuSet::MAX_CPU).filter(|number| all.is_set(*number)) {
            let (ends, stalls) = (watch.ends.clone(), watch.stalls.clone());
            watch.threads.push(thread::spawn(move || {
                let mut own = CpuSet::new();
                own.set(processor);
                sched_setaffinity(None, &own).unwrap();
                run_before_all();
                while !ends.load(Ordering::Relaxed) {
                    let began = monotonic();
                    sleep(LOOK);
                    let woken = monotonic();
                    if woken - began > LATE + u64::try_from(LOOK.as_nanos()).unwrap() {
                        stalls.lock().unwrap().push((began, woken));
                    }
                }
            }));
        }
        watch
    }

    pub fn end(self) -> Stalls {
        self.ends.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        Stalls(mem::take(&mut self.stalls.lock().unwrap()))
    }
}

impl Stalls {
    /// Whether the machine was awake all the time from one moment to another.
    pub fn was_awake(&self, from: u64, to: u64) -> bool {
        !self.0.iter().any(|(began, ended)| *began < to && from < *ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_counts_for_what_it_lies_in() {
        let stalls = Stalls(vec![(10, 20), (40, 50)]);
        for (from, to, awake) in [
            (0, 10, true),
            (0, 11, false),
            (12, 15, false),
            (19, 30, false),
            (20, 40, true),
            (60, 70, true),
        ] {
            assert_eq!(stalls.was_awake(from, to), awake, "{from} to {to}");
        }
    }
}
