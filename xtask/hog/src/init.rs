//! Process 1 of the container: starts the children, reaps whatever ends, and
//! starts again what was its own.

use crate::{
    said::{Outcome, say},
    settings::Settings,
};
use rustix::process::{self, Pid, Signal, WaitOptions, WaitStatus};
use signal_hook::{
    consts::{SIGCHLD, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    collections::HashMap,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// A child that ended sooner is started again only after this time.
const SHORTEST: Duration = Duration::from_secs(1);

struct Child {
    number: u32,
    began: Instant,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(settings: &Settings) -> Outcome<()> {
    // Before the first child, so that none ends unnoticed.
    let mut signals = Signals::new([SIGCHLD, SIGTERM, SIGINT])?;
    let mut children = HashMap::new();
    let mut restarts = 0_u32;
    say(&format!("init (pid {}): {settings:?}", std::process::id()))?;
    for number in 1..=settings.children {
        start(number, settings, &mut children)?;
    }
    for signal in signals.forever() {
        if signal != SIGCHLD {
            break;
        }
        // Signals of the same kind are merged: one may stand for many children.
        while let Some((pid, status)) = process::wait(WaitOptions::NOHANG).ok().flatten() {
            // Orphans of children come to process 1 as well.
            let Some(Child { number, began }) = children.remove(&pid) else { continue };
            restarts += 1;
            let (lived, how) = (began.elapsed(), ended(status));
            say(&format!(
                "child {number} (pid {pid}): {how} after {:.1} s; {restarts} restarts",
                lived.as_secs_f64()
            ))?;
            thread::sleep(SHORTEST.saturating_sub(lived));
            start(number, settings, &mut children)?;
        }
    }
    for pid in children.keys() {
        // It may have ended by itself.
        let _ = process::kill_process(*pid, Signal::TERM);
    }
    while process::wait(WaitOptions::empty()).is_ok() {}
    say(&format!("init: asked to end, after {restarts} restarts"))
}

fn start(number: u32, settings: &Settings, children: &mut HashMap<Pid, Child>) -> Outcome<()> {
    let speed = settings.mib_per_second + settings.mib_per_second * (number - 1) / 4;
    let mut command = Command::new("/proc/self/exe");
    command.arg("child").args([number, speed, settings.cpu_percent].map(|it| it.to_string()));
    let started = command.spawn().map_err(|error| format!("cannot start a child: {error}"))?;
    let pid = i32::try_from(started.id()).ok().and_then(Pid::from_raw).ok_or("no pid")?;
    children.insert(pid, Child { number, began: Instant::now() });
    Ok(())
}

fn ended(status: WaitStatus) -> String {
    match (status.terminating_signal(), status.exit_status()) {
        (Some(9), _) => "killed (SIGKILL)".into(),
        (Some(signal), _) => format!("ended by signal {signal}"),
        (None, Some(code)) => format!("ended with {code}"),
        (None, None) => "ended".into(),
    }
}
