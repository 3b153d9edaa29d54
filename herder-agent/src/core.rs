//! The core: one task that owns the cgroup tree, the open kills, the policy and the enforcement. It
//! advances all of them with the kernel's events.
//!
//! It runs on a thread of its own, so that a slow scrape or API server can never delay a correction
//! of `memory.oom.group` or the report of a kill. Other parts reach it through an [`Inbox`].
//!
//! [`Core`] only passes on what its parts find out; each part owns its state: [`Cgroups`],
//! [`Subjects`] (whose a cgroup is and what is wanted of it), [`Kills`], [`Audit`], [`Notices`],
//! and the enforcer. All of them take the time from one clock, but for what Events wait for in a task
//! of their own. All is done by calls that do not wait; [`Core::run`] alone waits. So
//! `tests/pipeline.rs` drives the same core without a kernel.

mod appearing;
mod arguments;
mod audit;
mod cgroups;
mod connected;
mod describe;
mod effects;
mod escalating;
mod fates;
mod following;
mod govern;
mod inbox;
mod kills;
mod losses;
mod notices;
mod over_limit;
mod pods;
mod run;
mod scene;
mod shield;
mod state_writer;
mod subjects;
mod waiting;
mod walking;

pub use inbox::{Inbox, Message};
pub use notices::Notices;

use crate::{
    enforce::{Enforcer, RestartRequests, shield::Parts},
    kernel::{
        cgroupfs::CgroupFs,
        clock::Clock,
        probe::DecodeError,
        source::{Polled, Queue, Source},
    },
    report::{
        Reporter,
        heartbeat::Heartbeat,
        requests::{PodRequest, StatesRequest},
    },
    runtime::{nri::Awaited, roles::RoleRequests},
    state::StateFile,
};
use audit::Audit;
use cgroups::Cgroups;
use herder_model::{
    cgroup::CgroupId,
    clock::Monotonic,
    escalation::node::Escalations,
    naming::Naming,
    oom::{assemble::EXIT_WAIT, reasons::Lost},
    rules::matching::Policy,
};
use kills::Kills;
use shield::Shields;
use state_writer::StateWriter;
use std::{path::PathBuf, sync::Arc, time::Duration};
use subjects::Subjects;

/// A killed process is reported at most this long after the kernel has counted it. Records are read
/// at once, but the end of a group may take a while.
const REPORTED_WITHIN: Duration = Duration::from_secs(5);

/// How often all that the source has is taken at the end. Counts that are read with the kills of the
/// first time may amount to more, and a process that goes on making cgroups does not keep the agent.
const TAKEN_AT_THE_END: usize = 2;

/// The v2 hierarchy, or the part of it that the agent looks at.
#[derive(Clone, Debug)]
pub struct CgroupMount {
    pub root: PathBuf,
    pub begins_at: CgroupId,
    /// The user of the kubelet, whose all of the way to a pod's cgroups has to be: root, but in
    /// a test.
    pub kubelet_uid: u32,
    /// How often all of it is looked at again.
    pub resync_every: Duration,
}

/// What the core is made of.
pub struct CoreConfig {
    pub clock: Clock,
    pub source: Box<dyn Source>,
    /// The rules: which value is wanted of which cgroup.
    pub policy: Arc<Policy>,
    pub enforcer: Enforcer,
    /// Where restarts of containers are ordered, and the pause between two of them.
    pub restarts: (RestartRequests, Duration),
    pub reporter: Arc<Reporter>,
    pub hierarchy: CgroupMount,
    /// Whose the cgroups are.
    pub naming: Naming,
    /// Where it is asked what a new container is.
    pub role_requests: RoleRequests,
    /// The Kubernetes Events for pods.
    pub notices: Notices,
    /// Where the next agent finds what this one knows.
    pub state_file: Option<StateFile>,
    /// What the kernel had counted of the node before the source was attached.
    pub node_before: Option<u64>,
    /// Shows other parts that the core's loop still turns.
    pub heartbeat: Heartbeat,
    /// Whose cgroups the plugin of the runtime waits for.
    pub awaited: Awaited,
    /// What protects inits; none if nothing can.
    pub shield: Option<Parts>,
}

/// The parts, and where their findings are reported.
pub struct Core {
    clock: Clock,
    source: Box<dyn Source>,
    files: CgroupFs,
    cgroups: Cgroups,
    subjects: Subjects,
    role_requests: RoleRequests,
    enforcer: Enforcer,
    escalations: Escalations,
    restarts: RestartRequests,
    kills: Kills,
    audit: Audit,
    notices: Notices,
    reporter: Arc<Reporter>,
    resync_every: Duration,
    heartbeat: Heartbeat,
    awaited: Awaited,
    shields: Shields,
}

impl Core {
    pub fn new(mut config: CoreConfig) -> Self {
        // A victim that is described when it exits takes as long as its memory.
        let traced = config.source.traced();
        let is_blind = !config.source.only_counts() && traced.decisions_since.is_none();
        let reported_within = if traced.at_exit { EXIT_WAIT } else { REPORTED_WITHIN };
        let CgroupMount { root, begins_at, kubelet_uid, resync_every } = config.hierarchy;
        config.reporter.rules(config.policy.names());
        config.reporter.escalating(config.policy.escalations());
        let (restarts, pause) = config.restarts;
        let escalations = Escalations::new(pause, config.enforcer.take_raised());
        let writer = StateWriter::new(config.state_file, config.clock.now());
        Core {
            clock: config.clock,
            source: config.source,
            files: CgroupFs::new(root),
            cgroups: Cgroups::new(begins_at),
            subjects: Subjects::new(config.naming, config.policy, kubelet_uid),
            role_requests: config.role_requests,
            enforcer: config.enforcer,
            escalations,
            restarts,
            kills: Kills::new(traced, is_blind),
            audit: Audit::new(reported_within, config.node_before, writer),
            notices: config.notices,
            reporter: config.reporter,
            resync_every,
            heartbeat: config.heartbeat,
            awaited: config.awaited,
            shields: Shields::new(config.shield),
        }
    }

    /// Takes a message of another part: news or a request.
    pub fn take(&mut self, message: Message) {
        match message {
            Message::Policy(policy) => self.take_policy(policy),
            Message::Pod(event) => self.take_pod(event),
            Message::RuntimeContainers(containers) => self.take_runtime_containers(containers),
            Message::Roles(found) => self.take_roles(found),
            Message::States(StatesRequest { after, most, answer }) => {
                let mut states = self.enforcer.states(after.as_ref(), most);
                for state in &mut states.states {
                    let shown = self.escalations.shown(state.id);
                    state.escalation.as_mut().into_iter().for_each(|it| it.show(shown));
                }
                self.show_protection(&mut states.states);
                // The client that asked may be gone, which does not concern the core.
                let _ = answer.send(states);
            }
            Message::Restarted(restarted) => self.restarted(restarted),
            Message::Connected(PodRequest { address, answer }) => {
                // The same.
                let _ = answer.send(self.pod_at(address));
            }
        }
    }

    /// When [`Self::run_due`] or a poll of the source has something to do next.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let parts = [
            self.enforcer.due(),
            self.cgroups.deadline(),
            self.source.deadline(),
            self.kills.deadline(),
            self.escalations.deadline(),
            self.shields.deadline(),
            self.audit.deadline(),
        ];
        parts.into_iter().flatten().min()
    }

    /// What every turn of the loop ends with, whatever has woken it. `due` is what
    /// [`Self::next_deadline`] said when the turn began. With `survey` some containers are
    /// looked at again, for which there must be time.
    pub fn turn(&mut self, due: Option<Monotonic>, survey: bool) {
        if survey {
            self.enforcer.survey_some();
            self.recount_some();
        }
        // Counts that were read come before kills that happened later.
        self.take_effects();
        self.take_kills(self.clock.now());
        self.decide_restored();
        self.notice_protections();
        let now = self.clock.now();
        // What has come meanwhile of an overdue kill was read before it is given up.
        if due.is_some_and(|due| due <= now) {
            self.run_due(now);
        }
    }

    pub fn run_due(&mut self, now: Monotonic) {
        let is_due = |deadline: Option<Monotonic>| deadline.is_some_and(|due| due <= now);
        if is_due(self.enforcer.due()) {
            self.enforcer.correct_due();
        }
        // New cgroups come one at a time, since their runtimes have yet to write.
        if is_due(self.cgroups.appearing.deadline()) {
            self.try_appearing();
        }
        if is_due(self.kills.assembler.deadline()) {
            self.expire_kills(now);
        }
        if is_due(self.kills.waiting.deadline()) {
            self.report_unnamed(now);
        }
        if is_due(self.kills.fates.deadline()) {
            self.look_at_containers();
        }
        if is_due(self.escalations.deadline()) {
            self.escalate_due();
        }
        if is_due(self.audit.reconciler_deadline()) {
            self.settle_counts(now);
        }
        if is_due(self.audit.writer.deadline()) {
            self.save_state();
        }
    }

    /// The agent ends. Kills that the kernel has recorded are reported as far as they are known,
    /// and values are restored if that was asked for.
    pub fn end(&mut self) {
        self.take_effects();
        for _ in 0..TAKEN_AT_THE_END {
            // Where counts are the source, these are what kills are put together from.
            self.take_cgroups();
            self.take_kills(Monotonic::END);
            if self.source.deadline().is_none() {
                break;
            }
        }
        self.expire_kills(Monotonic::END);
        self.report_unnamed(Monotonic::END);
        // What follows takes seconds, most of all to detach the programs.
        self.notices.close();
        self.shields.end();
        self.enforcer.shutdown();
        self.take_effects();
    }

    /// Takes what there is in one queue of the source.
    fn poll(&mut self, queue: Queue) -> Polled {
        let subjects = &self.subjects;
        let mut polled =
            self.source.poll(queue, self.clock.now(), &|path| subjects.container_of(path));
        if polled.cgroups_unseen {
            self.cgroups.unseen();
        }
        if polled.overflows > 0 {
            self.reporter.lost(Lost::CountQueueFull, polled.overflows);
        }
        for error in polled.undecodable.drain(..) {
            undecodable(&self.reporter, &error);
        }
        polled
    }
}

/// Counts a record that is no event.
fn undecodable(reporter: &Reporter, error: &DecodeError) {
    match error {
        DecodeError::Short { .. } => reporter.lost(Lost::ShortRecord, 1),
        DecodeError::UnknownKind(_) => reporter.lost(Lost::UnknownRecord, 1),
        // Any process that makes cgroups may cause one of these for each of them.
        DecodeError::Path(_) | DecodeError::Level { .. } => return reporter.cgroup_unread(error),
    }
    tracing::warn!(%error, "Cannot decode a record of the eBPF programs.");
}
