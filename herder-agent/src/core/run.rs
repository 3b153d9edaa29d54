//! The loop: which of all that may be done comes first, and what is waited for.

use super::{Core, inbox::Inbox, walking::Walking};
use crate::{
    kernel::readable::{Guard, Readable},
    report::heartbeat,
};
use herder_model::clock::Monotonic;
use std::{future::pending, io, time::Duration};
use tokio::{
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

/// Pause before a walk that is needed at once.
const BETWEEN_WALKS: Duration = Duration::from_secs(1);

/// Turns after which some containers are surveyed although there is other work.
const SURVEY_EVERY: u32 = 64;

impl Core {
    /// Works until the inbox is stopped. Then it drains the kernel's events, and restores values if
    /// that was asked for. `ready` is called after the first walk.
    pub async fn run(mut self, mut inbox: Inbox, ready: impl FnOnce()) -> io::Result<()> {
        let worked = self.work(&mut inbox, ready).await;
        // Whatever has ended it: kills that wait are reported, and the next agent finds the state.
        self.end();
        self.save_last_state().await;
        worked
    }

    /// Works until the inbox is stopped, or it cannot go on.
    async fn work(&mut self, inbox: &mut Inbox, ready: impl FnOnce()) -> io::Result<()> {
        let descriptors = self.source.descriptors();
        let kills = descriptors.kills.map(Readable::register).transpose()?;
        let cgroups = descriptors.cgroups.map(Readable::register).transpose()?;
        let mut changes = self.enforcer.inotify().map(Readable::register).transpose()?;
        self.begin()?;
        ready();
        let mut resync = interval(self.resync_every);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        resync.reset();
        let mut walking: Option<Walking> = None;
        let mut walked = Instant::now();
        // On a quiet node nothing else wakes the loop for long.
        let mut beats = heartbeat::beats();
        // Something changes values faster than they are corrected.
        let mut fighting = false;
        let mut turns = 0u32;
        loop {
            // Nothing that was done may wait for what happens next.
            self.take_effects();
            self.shields.hand_over();
            // What is unseen while a walk goes on may lie where that has been already.
            if walking.is_none() && self.cgroups.take_unseen() {
                // A process that makes cgroups in a loop must neither cause one walk after another
                // nor, by being unseen in each turn, put the walk off for ever.
                resync.reset_at(walked + BETWEEN_WALKS);
            }
            let (due, now) = (self.next_deadline(), self.clock.now());
            let is_due = due.is_some_and(|due| due <= now);
            turns = turns.wrapping_add(1);
            self.heartbeat.beat();
            let mut survey = turns.is_multiple_of(SURVEY_EVERY);
            // While something rewrites values in a loop, every second turn is for other work.
            let others_turn = std::mem::take(&mut fighting);
            tokio::select! {
                // A correction comes before all else: a container may be about
                // to start its program with the wrong value.
                biased;
                result = readable(changes.as_ref()), if !others_turn => {
                    let guard = result?;
                    if self.enforcer.changed() {
                        guard.drained();
                    } else {
                        fighting = true;
                    }
                }
                // The turn takes them, and the next what it leaves. Those that come meanwhile are
                // signalled again.
                guard = readable(cgroups.as_ref()) => guard?.drained(),
                // What is due is done in this turn, after a look for corrections.
                () = yield_now(), if is_due => {}
                () = sleep(from(now, due)), if due.is_some() && !is_due => {}
                guard = readable(kills.as_ref()) => guard?.drained(),
                message = inbox.next() => match message {
                    Some(message) => {
                        self.take(message);
                        yield_now().await;
                    }
                    None => return Ok(()),
                },
                _ = resync.tick(), if walking.is_none() => walking = Some(self.start_walk()),
                (began, step) = super::walking::next_step(&mut walking) => {
                    walked = Instant::now();
                    self.take_step(began, step)?;
                    // There may be an inotify instance only now.
                    if walking.is_none() && changes.is_none() {
                        changes = self.enforcer.inotify().map(Readable::register).transpose()?;
                    }
                }
                saved = self.audit.writer.saved() => {
                    self.shields.saved(saved);
                    if !saved {
                        self.audit.writer.failed(self.clock.now());
                    }
                }
                () = self.shields.news() => if self.shields.is_unsaved() {
                    self.audit.writer.touch(self.clock.now());
                },
                () = yield_now(), if self.enforcer.surveying() || self.audit.recounts() => survey = true,
                () = yield_now(), if others_turn => {}
                _ = beats.tick() => {}
            }
            // A process that changes a value, or makes cgroups, in a loop must delay neither kills,
            // nor new containers, nor the agent's end.
            self.turn(due, survey);
            if inbox.is_stopped() {
                return Ok(());
            }
            if let Some(message) = inbox.try_next(turns) {
                self.take(message);
                // Else many messages in a row would hide that values change.
                yield_now().await;
            }
        }
    }
}

/// Waits until there is something to read; for ever if there is nothing to wait for.
async fn readable(descriptor: Option<&Readable>) -> io::Result<Guard<'_>> {
    match descriptor {
        Some(descriptor) => descriptor.readable().await,
        None => pending().await,
    }
}

/// How long it is until then.
fn from(now: Monotonic, due: Option<Monotonic>) -> Duration {
    due.unwrap_or_default().saturating_duration_since(now)
}
