//! Inits whose protection ends although a rule asks for it, or cannot be ended: the owner of the pod
//! gets a Kubernetes Event, once for each time.
//!
//! The shield's thread says what is so, and not what has happened. So what it said last is kept.

use super::{
    super::{Core, notices::ProtectionEnd},
    Shields,
};
use crate::enforce::shield::{Found, Wanted};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    shield::Unprotected,
};
use std::sync::Arc;

/// What has ended, or could not be ended, between these two.
fn ends(before: &Found, now: &Found, wanted: &Wanted) -> Vec<(CgroupPath, ProtectionEnd)> {
    let was_exempt =
        |id: &CgroupId| before.states.get(id) == Some(&None) || before.unrestored.contains_key(id);
    let ended = now.states.iter().filter_map(|(id, state)| {
        let why = state.filter(|why| has_ended(*why))?;
        let protect = wanted.containers.get(id)?;
        let is_news = was_exempt(id) && !now.unrestored.contains_key(id);
        is_news.then(|| (protect.path.clone(), ProtectionEnd::Ended(protect.rule.clone(), why)))
    });
    let not_removed = now.unrestored.iter().filter_map(|(id, why)| {
        let init = now.inits.get(id).filter(|_| !before.unrestored.contains_key(id))?;
        Some((init.path.clone(), ProtectionEnd::NotRemoved(why.clone())))
    });
    ended.chain(not_removed).collect()
}

/// Whether an init that was exempt is not for this reason. For the others it has not been yet, or
/// the container has another init.
fn has_ended(why: Unprotected) -> bool {
    matches!(why, Unprotected::NoOtherVictim | Unprotected::Changed | Unprotected::Refused)
}

impl Shields {
    fn take_ends(&mut self) -> Vec<(CgroupPath, ProtectionEnd)> {
        let now = self.found();
        if Arc::ptr_eq(&self.noticed, &now) {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.noticed, now);
        ends(&before, &self.noticed, &self.wanted)
    }
}

impl Core {
    /// Emits Events for protections that have ended, or could not be ended.
    pub(in super::super) fn notice_protections(&mut self) {
        if self.shields.link.is_none() {
            return;
        }
        for (path, end) in self.shields.take_ends() {
            self.notices.notice_protection(&self.subjects.naming, &path, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enforce::shield::Protect;
    use herder_model::shield::SavedInit;

    const ID: CgroupId = CgroupId(7);

    fn found(state: Option<Unprotected>, unrestored: Option<&str>) -> Found {
        let init = SavedInit { path: CgroupPath::root(), pid: 1, start: 1, score: 0 };
        Found {
            version: 1,
            inits: [(ID, init)].into(),
            states: [(ID, state)].into(),
            unrestored: unrestored.map(|why| (ID, why.to_owned())).into_iter().collect(),
        }
    }

    /// Each once, in whatever order it goes on.
    #[test]
    fn what_ends_is_reported_once_and_what_never_began_is_not() {
        let protect = Protect { path: CgroupPath::root(), rule: "r".into(), init: None };
        let wanted = Wanted { containers: [(ID, protect)].into(), ..Wanted::default() };
        let (kernel, changed) = (Unprotected::NoOtherVictim, Unprotected::Changed);
        let reported = |before: &Found, now: &Found| -> Vec<_> {
            ends(before, now, &wanted).into_iter().map(|(_, end)| end).collect()
        };
        let ended = |why| vec![ProtectionEnd::Ended("r".into(), why)];
        let stuck = || vec![ProtectionEnd::NotRemoved("EIO".into())];
        let (held, off) = (found(None, None), found(Some(kernel), None));
        assert_eq!(reported(&held, &off), ended(kernel));
        assert_eq!(reported(&held, &found(Some(changed), None)), ended(changed));
        assert_eq!(reported(&off, &off), []);
        assert_eq!(reported(&Found::default(), &off), [], "it was never exempt");
        for why in [Unprotected::Pending, Unprotected::NoInit, Unprotected::TooMany] {
            assert_eq!(reported(&held, &found(Some(why), None)), [], "{why:?}");
        }
        // It is to get its own value back, and gets it later.
        let failed = found(Some(kernel), Some("EIO"));
        assert_eq!(reported(&held, &failed), stuck());
        assert_eq!(reported(&failed, &failed), []);
        assert_eq!(reported(&failed, &off), ended(kernel));
        // No rule asks for it any more.
        let released = Found { states: [].into(), ..found(None, Some("EIO")) };
        assert_eq!(ends(&held, &released, &Wanted::default()).len(), 1);
        assert_eq!(ends(&released, &Found::default(), &Wanted::default()), []);
    }
}
