//! Kills that wait for their names. The kubelet reports a container's ID only some seconds after
//! the container's start.

use super::{describe::limit_of, subjects::Subjects};
use herder_model::{
    clock::Monotonic,
    kill::{KEPT, KillReport},
    oom::reasons::Unattributed,
    owner::Owner,
    scene,
};
use std::{collections::VecDeque, mem, time::Duration};

/// How long a kill waits for its names.
pub(super) const WAIT: Duration = Duration::from_secs(30);

/// Those that wait, at most as many as are kept of kills: a container whose name is held back may
/// lose processes as fast as the kernel kills.
#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<(Monotonic, KillReport)>);

impl Waiting {
    /// When the first of them has waited long enough.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.0.front().map(|(until, _)| *until)
    }

    /// One more. Gives the oldest if that has to wait no longer, because there are too many.
    pub(super) fn add(&mut self, report: KillReport, now: Monotonic) -> Option<KillReport> {
        let mut scenes = self.0.iter_mut().filter(|(_, report)| report.scene.is_some());
        // More than the journal keeps would be for nothing.
        if let Some((_, oldest)) = scenes.nth_back(scene::KEPT - 1) {
            oldest.scene = None;
        }
        self.0.push_back((now + WAIT, report));
        if self.0.len() > KEPT { self.0.pop_front().map(|(_, report)| report) } else { None }
    }

    /// Names them as far as is known, and gives those that are named.
    pub(super) fn named(&mut self, subjects: &Subjects) -> Vec<KillReport> {
        let mut named = Vec::new();
        for (until, mut report) in mem::take(&mut self.0) {
            subjects.name(&mut report);
            if is_unnamed(&report) {
                self.0.push_back((until, report));
            } else {
                named.push(report);
            }
        }
        named
    }

    /// Those that have waited long enough. The others are not looked at: no name has come.
    pub(super) fn overdue(&mut self, now: Monotonic) -> Vec<KillReport> {
        let waits = self.0.partition_point(|(until, _)| *until <= now);
        self.0.drain(..waits).map(|(_, report)| report).collect()
    }
}

/// Whether a name is yet to come.
pub(super) fn is_unnamed(report: &KillReport) -> bool {
    report.victim_owners.iter().any(|owner| matches!(owner, Owner::Unnamed { .. }))
}

impl Subjects {
    /// Names a kill, as far as its names are known by now.
    fn name(&self, report: &mut KillReport) {
        for owner in &mut report.victim_owners {
            if let Owner::Unnamed { cgroup } = owner
                && let Some(named) = self.naming.owner_of_kill(cgroup)
            {
                *owner = named;
            }
        }
        if let Some(first) = report.victim_owners.first() {
            report.owner = first.clone();
        }
        let Some(path) = report.cgroup.as_ref().map(|path| self.container_of(path)) else { return };
        if report.rule.is_none() {
            report.rule = self.wanted(&path).map(|target| target.rule.to_string());
        }
        // The pod's spec says more than the cgroups did.
        let limit = report.limits.whose(self.naming.pods_own_limit(&path));
        report.limit = limit_of(&report.owner, limit);
    }

    /// Names a kill as far as that is known. For names that did not come: what is known of the pod,
    /// or else the cgroup's path. Returns why, if that is less than there should be. A container that
    /// is known by its ID alone is still a container; what is known to be none has no limit but its
    /// pod's.
    pub(super) fn name_at_last(&self, report: &mut KillReport) -> Option<Unattributed> {
        self.name(report);
        let (mut missing, mut of_first) = (None, None);
        for owner in report.victim_owners.iter_mut().chain([&mut report.owner]) {
            let Owner::Unnamed { cgroup } = owner else { continue };
            let (named, why) = match self.naming.owner_at_last(cgroup) {
                Some((names, is_known)) => {
                    let why = (!is_known).then_some(Unattributed::UnknownContainer);
                    (Owner::Container(names), why)
                }
                None => (Owner::Host { cgroup: cgroup.clone() }, Some(Unattributed::UnknownPod)),
            };
            *owner = named;
            missing = missing.max(why);
            // The last of them is the kill's own.
            of_first = why;
        }
        if of_first.is_none() {
            report.limit = limit_of(&report.owner, report.limit);
        }
        missing
    }
}
