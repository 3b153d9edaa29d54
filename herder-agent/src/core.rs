//! The heart: one task that owns the cgroup tree, the open kills, the policy and
//! the enforcement, and moves all of them on as the kernel tells of events.
//!
//! It runs on a thread of its own, so that a slow scrape or API server can never
//! delay a correction of `memory.oom.group` or the report of a kill. Others talk
//! to it by an [`Inbox`].

mod appearing;
mod cgroups;
mod counts;
mod deduced;
mod fates;
mod inbox;
mod kills;
mod limits;
mod losses;
mod notices;
mod over_limit;
mod owners;
mod pods;
mod walking;

pub use counts::Leaving;
pub use inbox::Inbox;
pub use notices::Notices;

use self::{appearing::Appearing, fates::Fates, inbox::Message, pods::Waiting};
use crate::{
    enforce::{Enforcer, StatesRequest},
    kernel::{
        clock::monotonic_now,
        probe::DecodeError,
        readable::{Guard, Readable},
        source::Source,
    },
    report::{
        Reporter,
        heartbeat::{self, Heartbeat},
    },
    runtime::nri::Awaited,
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath, tree::CgroupTree},
    clock::Monotonic,
    naming::Naming,
    oom::{
        assemble::{Assembler, EXIT_WAIT},
        event::{Event, Traced},
        exiting::Exiting,
        over_limit::OverLimit,
        reasons::Lost,
    },
    reconcile::Reconciler,
    rules::matching::Policy,
};
use losses::Losses;
use std::{collections::VecDeque, future::pending, io, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use walking::{Walking, next_step};

/// How long after the kernel has counted a killed process it is told at the latest:
/// records are read at once, but the end of a group may take a while.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Pause before a walk that is needed at once.
const BETWEEN_WALKS: Duration = Duration::from_secs(1);

/// Turns after which some containers are surveyed although there is other work.
const SURVEY_EVERY: u32 = 64;

/// The v2 hierarchy, or the part of it that the agent looks at.
#[derive(Clone, Debug)]
pub struct CgroupMount {
    /// Where it is mounted.
    pub root: PathBuf,
    /// The cgroup that is there.
    pub begins_at: CgroupId,
    /// How often all of it is looked at again.
    pub resync_every: Duration,
}

/// What the core is made of.
pub struct CoreConfig {
    /// Where the kernel's events come from.
    pub source: Source,
    /// What is wanted of which cgroup.
    pub policy: Arc<Policy>,
    /// What keeps it so.
    pub enforcer: Enforcer,
    /// Where all is told.
    pub reporter: Arc<Reporter>,
    /// Where the cgroups are.
    pub hierarchy: CgroupMount,
    /// Whose they are.
    pub naming: Naming,
    /// What pods' owners are told.
    pub notices: Notices,
    /// What the next agent is told.
    pub leaving: Leaving,
    /// What the kernel had counted of the node before the source was heard.
    pub node_before: Option<u64>,
    /// What shows others that the loop turns.
    pub heartbeat: Heartbeat,
    /// Whose cgroups the plugin of the runtime waits for.
    pub awaited: Awaited,
}

/// The state, and where it is told.
pub struct Core {
    source: Source,
    /// All cgroups have been looked at once.
    walked: bool,
    /// Cgroups whose kills are to be counted again, without eBPF.
    uncounted: VecDeque<CgroupId>,
    assembler: Assembler,
    /// Where no program can say whose limit was hit.
    over_limit: Option<OverLimit>,
    tree: CgroupTree,
    appearing: VecDeque<Appearing>,
    policy: Arc<Policy>,
    enforcer: Enforcer,
    reporter: Arc<Reporter>,
    root: PathBuf,
    begins_at: CgroupId,
    resync_every: Duration,
    page_size: u64,
    naming: Naming,
    losses: Losses,
    /// Matched cgroups that did not appear in time; a walk tries them again.
    late: Vec<CgroupId>,
    /// The way from the root to where a walk is.
    way: Vec<(CgroupId, CgroupPath)>,
    /// How many cgroups were last told not to be kept, by their role.
    not_kept: [u64; 2],
    waiting: Waiting,
    fates: Fates,
    /// The latest victims.
    exiting: Exiting,
    notices: Notices,
    reconciler: Reconciler,
    /// What the node had counted before the source was heard, until that is compared.
    node_before: Option<u64>,
    leaving: Leaving,
    /// When the pods of the node were known for the first time.
    pods_known: Option<Instant>,
    heartbeat: Heartbeat,
    awaited: Awaited,
}

impl Core {
    /// Takes over the config.
    pub fn new(config: CoreConfig) -> Self {
        let CoreConfig { source, policy, enforcer, reporter, hierarchy, naming, notices, .. } =
            config;
        // A victim that is described when it exits takes as long as its memory.
        let traced = match &source {
            Source::Ebpf(probe) => probe.traced,
            Source::MemoryEvents(_) => Traced::default(),
        };
        let is_blind = matches!(source, Source::Ebpf(_)) && traced.decisions_since.is_none();
        let told_within = if traced.at_exit { EXIT_WAIT } else { TOLD_WITHIN };
        let CgroupMount { root, begins_at, resync_every } = hierarchy;
        reporter.rules(policy.names());
        Core {
            naming,
            waiting: Waiting::default(),
            fates: Fates::default(),
            exiting: Exiting::default(),
            notices,
            reconciler: Reconciler::new(told_within),
            node_before: config.node_before,
            leaving: config.leaving,
            pods_known: None,
            heartbeat: config.heartbeat,
            awaited: config.awaited,
            assembler: Assembler::new(traced),
            over_limit: is_blind.then(OverLimit::default),
            source,
            walked: false,
            uncounted: VecDeque::new(),
            tree: CgroupTree::default(),
            appearing: VecDeque::new(),
            policy,
            enforcer,
            reporter,
            root,
            begins_at,
            resync_every,
            page_size: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
            losses: Losses::default(),
            late: Vec::new(),
            way: Vec::new(),
            not_kept: [0; 2],
        }
    }

    /// Works until it is told to stop, then drains what the kernel has told,
    /// and gives values back if asked to. `ready` is called after the first walk.
    ///
    /// # Errors
    /// When the kernel's events cannot be waited for, or the mount begins at another
    /// cgroup than before.
    pub async fn run(mut self, mut inbox: Inbox, ready: impl FnOnce()) -> io::Result<()> {
        let (kills, cgroups) = self.source.readable()?;
        let mut changes = self.enforcer.inotify().map(Readable::register).transpose()?;
        self.first_walk()?;
        self.begin_over_limit();
        ready();
        let mut resync = interval(self.resync_every);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        resync.reset();
        let mut walking: Option<Walking> = None;
        let mut walked = Instant::now();
        // On a quiet node nothing else wakes the loop for long.
        let mut beats = heartbeat::beats();
        // Somebody changes values faster than they are corrected.
        let mut fighting = false;
        let mut turns = 0u32;
        loop {
            // Nothing that was done may wait for what happens next.
            self.take_effects();
            let due = self.assembler.deadline().into_iter().chain(self.source.deadline()).min();
            let (compared, save) = (self.reconciler.deadline(), self.leaving.due());
            let looks = self.fates.due();
            let rested = self.enforcer.due().map(Instant::from_std);
            turns = turns.wrapping_add(1);
            self.heartbeat.beat();
            let mut survey = turns.is_multiple_of(SURVEY_EVERY);
            let appears = self.next_appears();
            let appeared = appears.is_some_and(|due| due <= Instant::now());
            // Every second turn of a fight is for all else.
            let others_turn = std::mem::take(&mut fighting);
            tokio::select! {
                // A correction comes before all else: a container may be about
                // to start its program with the wrong value. New cgroups come one
                // at a time, since their runtimes have yet to write.
                biased;
                result = readable(changes.as_ref()), if !others_turn => {
                    let guard = result?;
                    if self.enforcer.changed() {
                        guard.drained();
                    } else {
                        fighting = true;
                    }
                }
                result = cgroups.ready() => { result?; self.take_cgroups(); }
                () = sleep_until(rested.unwrap_or_else(Instant::now)), if rested.is_some() => {
                    self.enforcer.correct_due();
                }
                () = yield_now(), if appeared => {}
                () = sleep_until(appears.unwrap_or_else(Instant::now)), if appears.is_some() && !appeared => {}
                guard = readable(kills.as_ref()) => guard?.drained(),
                () = sleep_until(instant(due)), if due.is_some() => self.expire_kills(monotonic_now()),
                message = inbox.next() => match message {
                    Some(message) => {
                        self.take(message);
                        yield_now().await;
                    }
                    None => break,
                },
                _ = resync.tick(), if walking.is_none() => walking = Some(self.start_walk()),
                (began, step) = next_step(&mut walking) => {
                    walked = Instant::now();
                    self.take_step(began, step)?;
                    // There may be an inotify instance only now.
                    if walking.is_none() && changes.is_none() {
                        changes = self.enforcer.inotify().map(Readable::register).transpose()?;
                    }
                }
                () = sleep_until(self.waiting.due()), if !self.waiting.is_empty() => self.name_kills(),
                () = sleep_until(looks.unwrap_or_else(Instant::now)), if looks.is_some() => self.look_at_containers(),
                () = sleep_until(instant(compared)), if compared.is_some() => self.settle_counts(),
                () = sleep_until(save.unwrap_or_else(Instant::now)), if save.is_some() => self.save_state(),
                () = self.leaving.saved() => {}
                () = yield_now(), if self.enforcer.surveying() || !self.uncounted.is_empty() => survey = true,
                () = yield_now(), if others_turn => {}
                _ = beats.tick() => {}
            }
            // Whoever changes a value, or makes cgroups, without end must keep neither
            // kills nor new containers waiting, nor the agent from ending.
            if appeared {
                self.try_appearing();
            }
            if survey {
                self.enforcer.survey_some();
                self.recount_some();
            }
            // Counts that were read come before kills that happened later.
            self.take_effects();
            self.take_kills();
            if self.losses.take_unseen_cgroups() {
                // Whoever makes cgroups without end must not have all walked without end.
                resync.reset_at(Instant::now().max(walked + BETWEEN_WALKS));
            }
            if inbox.is_stopped() {
                break;
            }
            if let Some(message) = inbox.try_next(turns) {
                self.take(message);
                // Else many messages in a row would hide that values change.
                yield_now().await;
            }
        }
        self.take_kills();
        self.expire_kills(Monotonic::END);
        self.give_up_naming();
        // What follows takes seconds, most of all to detach the programs.
        self.notices.close();
        self.enforcer.shutdown();
        self.take_effects();
        self.save_last_state().await;
        Ok(())
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Policy(policy) => self.take_policy(policy),
            Message::Pod(event) => self.take_pod(event),
            Message::Learnt(containers) => self.take_learnt(containers),
            Message::States(StatesRequest { after, most, answer }) => {
                // Whoever asked may have gone away, which is no concern of ours.
                let _ = answer.send(self.enforcer.states(after.as_ref(), most));
            }
        }
    }

    fn count_losses(&mut self) {
        let Source::Ebpf(probe) = &mut self.source else { return };
        let new = probe.new_losses();
        for (lost, times) in self.losses.settle(&new) {
            self.reporter.lost(lost, times);
        }
        if self.losses.take_ends() {
            self.assembler.records_lost(monotonic_now());
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

/// The moment of a `CLOCK_MONOTONIC` time, for tokio's timers.
fn instant(due: Option<Monotonic>) -> Instant {
    Instant::now() + due.unwrap_or_default().saturating_duration_since(monotonic_now())
}

/// Decodes a record, or counts it as lost.
fn decoded(record: &[u8], page_size: u64, reporter: &Reporter) -> Option<Event> {
    let error = match crate::kernel::probe::decode::decode(record, page_size) {
        Ok(event) => return Some(event),
        Err(error) => error,
    };
    match error {
        DecodeError::Short { .. } => reporter.lost(Lost::ShortRecord, 1),
        DecodeError::UnknownKind(_) => reporter.lost(Lost::UnknownRecord, 1),
        // Each cgroup that somebody makes may be one of these.
        DecodeError::Path(_) | DecodeError::Level { .. } => {
            reporter.cgroup_unread(&error);
            return None;
        }
    }
    tracing::warn!(%error, "Cannot decode a record of the eBPF programs.");
    None
}
