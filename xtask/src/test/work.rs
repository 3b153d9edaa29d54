//! Virtual machines side by side, and what became of them.

use crate::{kernel::Kernel, vm::Verdict};
use anyhow::{Context, Result};
use std::{sync::Mutex, thread, time::Instant};

/// What is run on which kernel.
pub struct Work<'a> {
    pub name: String,
    pub kernel: &'a Kernel,
    run: Box<dyn Fn() -> Result<Verdict> + Send + Sync + 'a>,
}

impl<'a> Work<'a> {
    pub fn new(
        name: impl Into<String>,
        kernel: &'a Kernel,
        run: impl Fn() -> Result<Verdict> + Send + Sync + 'a,
    ) -> Self {
        Work { name: name.into(), kernel, run: Box::new(run) }
    }
}

/// Work with its verdict, and how many seconds it took.
pub type Row<'a> = (Work<'a>, Result<Verdict>, f64);

/// Does some work at once.
pub fn side_by_side(jobs: usize, work: Vec<Work<'_>>) -> Vec<Row<'_>> {
    let waiting = Mutex::new(work.into_iter());
    let rows = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut work| work.next());
                    let Some(work) = next else { return };
                    let began = Instant::now();
                    let verdict = (work.run)().and_then(|verdict| {
                        (verdict.passed > 0).then_some(verdict).context("no test ran")
                    });
                    let row = (work, verdict, began.elapsed().as_secs_f64());
                    if let Ok(mut rows) = rows.lock() {
                        rows.push(row);
                    }
                }
            });
        }
    });
    rows.into_inner().unwrap_or_default()
}

/// Prints a table, and adds what is in it to a verdict.
pub fn summary(rows: &[Row<'_>], total: &mut Verdict) {
    println!(
        "\n{:<18} {:<28} {:>7} {:>7} {:>7} {:>8}",
        "kernel", "release", "passed", "failed", "flaky", "seconds"
    );
    for (Work { name, kernel, .. }, verdict, seconds) in rows {
        match verdict {
            Ok(verdict @ Verdict { passed, failed, flaky }) => {
                *total += *verdict;
                println!(
                    "{name:<18} {:<28} {passed:>7} {failed:>7} {flaky:>7} {seconds:>8.1}",
                    kernel.release
                );
            }
            Err(error) => {
                total.failed += 1;
                println!("{name:<18} {:<28} {error:#}", kernel.release);
            }
        }
    }
}
