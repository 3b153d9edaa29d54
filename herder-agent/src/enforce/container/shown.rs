//! What one matched container shows: its state when a client asks, and its value as a metric.

use super::{Container, Shared};
use crate::enforce::effect::Effect;
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    enforcement::Obstacle,
    escalation::{Escalate, To, container::Phase},
    owner::Owner,
};
use serde::Serialize;

/// The state of a matched container, for people and programs to read.
#[derive(Clone, Debug, Serialize)]
pub struct ContainerState {
    #[serde(skip)]
    pub id: CgroupId,
    pub cgroup: CgroupPath,
    /// The one inside of it that crun has made for its processes, and whose value counts.
    pub inner_cgroup: Option<CgroupPath>,
    pub owner: Owner,
    pub rule: String,
    pub wanted: u8,
    /// The value that it has, if that could be read.
    pub effective: Option<u8>,
    /// The original value, which would be restored.
    pub first: Option<u8>,
    /// Why the value does not count, or cannot be set.
    pub obstacle: Option<Obstacle>,
    /// The same for people, with what to do.
    pub explanation: Option<String>,
    pub writes: u64,
    /// Corrections of an enforced value that something else had changed.
    pub reverts: u64,
    /// What the rule escalates to, and how far that is.
    pub escalation: Option<EscalationState>,
    /// Whether its init is exempt from OOM kills, or why not, where its rule asks for that.
    pub init: Option<&'static str>,
}

/// What follows when processes of a container keep dying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EscalationState {
    /// After so many sub-process kills,
    pub after: usize,
    /// within so many seconds.
    pub within_seconds: u64,
    pub to: To,
    /// Kills that count now.
    pub kills: usize,
    /// How far it is: `counting`, `waiting` for the node's budget, `restarting` or `group`.
    pub state: &'static str,
}

impl EscalationState {
    /// One of which no kill is known.
    pub fn new(escalate: Escalate) -> Self {
        EscalationState {
            after: escalate.after(),
            within_seconds: escalate.within().as_secs(),
            to: escalate.to(),
            kills: 0,
            state: Phase::Counting.as_str(),
        }
    }

    pub fn show(&mut self, (phase, kills): (Phase, usize)) {
        (self.state, self.kills) = (phase.as_str(), kills);
    }
}

impl ContainerState {
    /// Becomes one with what is inside of it. As long as that has no value, its own counts.
    pub(in crate::enforce) fn take_in(&mut self, inner: Self) {
        if inner.effective.is_none() {
            return;
        }
        self.inner_cgroup = Some(inner.cgroup);
        self.effective = inner.effective;
        self.first = inner.first.or(self.first);
        if inner.obstacle.is_some() {
            (self.obstacle, self.explanation) = (inner.obstacle, inner.explanation);
        }
        self.writes += inner.writes;
        self.reverts += inner.reverts;
    }
}

impl Container {
    pub(in crate::enforce) fn state(&self) -> ContainerState {
        ContainerState {
            id: self.id,
            cgroup: self.path.clone(),
            inner_cgroup: None,
            owner: self.owner.clone(),
            rule: self.target.rule.to_string(),
            wanted: self.target.value.into(),
            effective: self.effective.map(u8::from),
            first: self.state.original_value().map(u8::from),
            obstacle: self.obstacle(),
            explanation: self.obstacle_text().map(|(_, text)| text.clone()),
            writes: self.state.writes(),
            reverts: self.state.reverts(),
            escalation: self.target.escalate.map(EscalationState::new),
            init: None,
        }
    }

    /// Whether crun's cgroup in this one shows its value instead.
    fn is_shown_by_inner(&self, shared: &Shared) -> bool {
        shared.inner.contains_key(&self.path)
    }

    /// From now on its value is, or is not, the one that counts of its scope.
    pub(super) fn is_inner_of_scope(&self, counts: bool, shared: &mut Shared) {
        let Some(scope) = &self.scope else { return };
        let inner = &mut shared.inner;
        if counts {
            inner.insert(scope.clone(), self.id);
        } else if inner.get(scope) == Some(&self.id) {
            inner.remove(scope);
        }
    }

    /// Whether it can show a value in place of another one that is gone.
    pub(in crate::enforce) fn can_show_for(&self, other: &Owner, shared: &Shared) -> bool {
        self.owner == *other && self.effective.is_some() && !self.is_shown_by_inner(shared)
    }

    pub(in crate::enforce) fn value(&self) -> Option<bool> {
        self.effective
    }

    pub(in crate::enforce) fn has_value(&self) -> bool {
        self.effective.is_some()
    }

    pub(in crate::enforce) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Shows the value although it has not changed.
    pub(in crate::enforce) fn show_again(&self, shared: &mut Shared) {
        if self.effective.is_some() && !self.is_shown_by_inner(shared) {
            self.report_value(shared);
        }
    }

    /// Takes a value as the one that it has now.
    pub(super) fn show(&mut self, value: Option<bool>, shared: &mut Shared) {
        if self.effective != value {
            self.effective = value;
            self.is_inner_of_scope(value.is_some(), shared);
            if !self.is_shown_by_inner(shared) {
                self.report_value(shared);
            }
        }
    }

    fn report_value(&self, shared: &mut Shared) {
        shared.effects.add(Effect::Effective {
            owner: self.owner.clone(),
            value: self.effective,
            wanted: self.target.value,
        });
    }
}
