//! Whose a cgroup is, and what the rules want of it. The names of pods and the rules are asked
//! together, since only both together say what a container is.

use crate::kernel::cgroupfs::CgroupFs;
use herder_model::{
    cgroup::{CgroupId, CgroupPath, tree::Role},
    clock::Monotonic,
    naming::{ContainerOfPod, NAMED_WITHIN, Naming},
    owner::{Owner, crun},
    rules::matching::{Policy, Target, Verdict},
};
use std::sync::Arc;

/// The names, and the rules.
pub(super) struct Subjects {
    pub(super) naming: Naming,
    pub(super) policy: Arc<Policy>,
    kubelet_uid: u32,
    /// When the pods of the node were known for the first time.
    pods_known: Option<Monotonic>,
}

impl Subjects {
    pub(super) fn new(naming: Naming, policy: Arc<Policy>, kubelet_uid: u32) -> Self {
        Subjects { naming, policy, kubelet_uid, pods_known: None }
    }

    /// What the rules say of a cgroup.
    pub(super) fn verdict(&self, path: &CgroupPath) -> Verdict {
        self.naming.verdict(&self.policy, path)
    }

    /// What the rules want of a cgroup, if they want something.
    pub(super) fn wanted(&self, path: &CgroupPath) -> Option<Target> {
        match self.verdict(path) {
            Verdict::Matched(target) => Some(target),
            _ => None,
        }
    }

    /// Whether nothing is to be done about a cgroup, not even to report it.
    pub(super) fn is_left_alone(&self, path: &CgroupPath) -> bool {
        matches!(self.verdict(path), Verdict::Unmatched | Verdict::Leave { .. })
    }

    /// What a cgroup is to the agent.
    pub(super) fn role(&self, path: &CgroupPath) -> Role {
        if path.as_str() == "/" || self.naming.is_own(path) || self.wanted(path).is_some() {
            Role::Container
        } else {
            Role::Other
        }
    }

    /// The scope that is one container with this cgroup, which crun has made in it; not if
    /// a rule wants something of this cgroup alone.
    pub(super) fn scope_of(&self, path: &CgroupPath) -> Option<CgroupPath> {
        crun::scope(path).filter(|scope| self.wanted(scope).is_some())
    }

    pub(super) fn owner(&self, path: &CgroupPath) -> Owner {
        let container = self.naming.container_path(path);
        self.naming.owner(container.as_ref().unwrap_or(path))
    }

    /// The container that a cgroup belongs to: the nearest one that a rule
    /// matches, else the systemd unit it is in, else itself.
    pub(super) fn container_of(&self, path: &CgroupPath) -> CgroupPath {
        if let Some(container) = self.naming.container_path(path) {
            return container;
        }
        let matched = path
            .upwards()
            .find(|path| self.wanted(path).is_some())
            .map(|found| self.scope_of(&found).unwrap_or(found));
        let unit = |path: &CgroupPath| {
            path.name().ends_with(".scope") || path.name().ends_with(".service")
        };
        matched.or_else(|| path.upwards().find(unit)).unwrap_or_else(|| path.clone())
    }

    /// Takes a cgroup that was found. What leads to a pod is looked at with the pod and
    /// again with each of its containers: a service manager gives a cgroup away right after
    /// it has made it.
    ///
    /// Where one of those belongs to another user than root, that user may put in it what he
    /// likes, by the names of any pod. A container's own cgroup may be another user's: the
    /// runtime gives it to the root of the container's user namespace.
    ///
    /// Gives the container whose cgroup it is, if its bundle is to be read.
    pub(super) fn made(
        &mut self,
        id: CgroupId,
        path: &CgroupPath,
        files: &CgroupFs,
    ) -> Option<ContainerOfPod> {
        if let Some(pod) = self.naming.pod_path(path) {
            let upwards: Vec<_> = pod.upwards().collect();
            // The mount's own root is whose the node is.
            let down = upwards.into_iter().rev().skip(1);
            let mut owners = down.filter_map(|path| Some((files.owner_uid(&path)?, path)));
            let other = owners.find(|(uid, _)| *uid != self.kubelet_uid);
            if self.naming.belongs_to(&pod, other.as_ref().map(|(_, path)| path.clone()))
                && let Some((uid, path)) = other
            {
                tracing::warn!(cgroup = %path, uid, "Cgroups below this one are not taken for pods, because it does not belong to root.");
            }
        }
        self.naming.made(id, path)
    }

    /// Whether no rule matches a cgroup that an earlier agent has left, so far as that is
    /// certain: a container without a name, labels or a pod may yet match a rule, for some time after
    /// the pods are known.
    pub(super) fn certainly_unmatched(&mut self, now: Monotonic) -> impl Fn(&CgroupPath) -> bool {
        let named_by_now = self.named_by_now(now);
        let knows_pods = self.naming.knows_pods();
        move |path| {
            let awaits = self.naming.awaits_name(path) || self.naming.awaits_labels(path);
            knows_pods
                && (named_by_now || !awaits)
                && !self.naming.awaits_pod(path)
                && self.wanted(path).is_none()
        }
    }

    /// Whether an init that an earlier agent has protected is to be restored: no rule matches its
    /// cgroup, or its name does not come, without which nothing is protected.
    pub(super) fn certainly_unprotected(&mut self, now: Monotonic) -> impl Fn(&CgroupPath) -> bool {
        let named_by_now = self.named_by_now(now);
        let knows_pods = self.naming.knows_pods();
        move |path| {
            if self.naming.awaits_name(path) {
                return knows_pods && named_by_now;
            }
            let may_match = !named_by_now && self.naming.awaits_labels(path);
            knows_pods && !may_match && self.wanted(path).is_none()
        }
    }

    /// Whether all names and labels are known that come.
    fn named_by_now(&mut self, now: Monotonic) -> bool {
        if self.naming.knows_pods() {
            self.pods_known.get_or_insert(now);
        }
        let since = self.pods_known.map(|since| now.saturating_duration_since(since));
        since.is_some_and(|since| since > NAMED_WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use herder_model::{
        naming::runtime::RuntimeContainer,
        owner::id::{ContainerId, PodUid},
        pods::{Event, Pod},
        rules::parse::Config,
    };
    use std::time::Duration;

    fn subjects(kubernetes: bool) -> Subjects {
        subjects_of(kubernetes, "/apps.slice/*")
    }

    fn subjects_of(kubernetes: bool, cgroups: &str) -> Subjects {
        let rules = &format!(
            "rules: [{{ name: apps, cgroups: [\"{cgroups}\"], oomGroup: single-process }}]"
        );
        let policy = Policy::new(Config::parse(rules, "test").unwrap());
        Subjects::new(Naming::new(kubernetes), Arc::new(policy), 0)
    }

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_container_is_what_a_rule_matches_or_else_a_unit_or_else_itself() {
        let subjects = subjects(false);
        for (cgroup, container) in [
            ("/apps.slice/a/below/deep", "/apps.slice/a"),
            ("/apps.slice/a.scope/container/deep", "/apps.slice/a.scope"),
            ("/system.slice/x.service/below", "/system.slice/x.service"),
            ("/plain/below", "/plain/below"),
        ] {
            assert_eq!(subjects.container_of(&path(cgroup)), path(container), "{cgroup}");
        }
        assert_eq!(subjects.role(&path("/apps.slice/a")), Role::Container);
        assert_eq!(subjects.role(&path("/apps.slice/a/below")), Role::Other);
    }

    #[test]
    fn a_container_without_a_name_is_unmatched_for_certain_only_after_a_while() {
        let mut subjects = subjects(true);
        let start = Monotonic(5);
        let uid = "2c39abf0-f543-4c05-8cfe-3839410aef01";
        let unnamed = path(&format!("/kubepods/pod{uid}/{}", "a".repeat(64)));
        let host = path("/system.slice/x.service");
        assert!(!subjects.certainly_unmatched(start)(&host), "the pods are not known");
        subjects.naming.apply(Event::ListStarted, start);
        subjects.naming.apply(Event::Listed, start);
        assert!(subjects.certainly_unmatched(start)(&host));
        assert!(!subjects.certainly_unmatched(start)(&path("/apps.slice/a")));
        subjects.naming.made(CgroupId(7), &unnamed);
        subjects.naming.expire(start);
        assert!(!subjects.certainly_unmatched(start + NAMED_WITHIN)(&unnamed));
        let later = start + NAMED_WITHIN + Duration::from_secs(1);
        assert!(
            !subjects.certainly_unmatched(later)(&unnamed),
            "a rule for it may come with its pod"
        );
        subjects.naming.expire(later);
        assert!(subjects.certainly_unmatched(later)(&unnamed));
    }

    #[test]
    fn an_init_whose_name_does_not_come_is_not_kept_for_ever() {
        let mut subjects = subjects_of(true, "/**");
        let start = Monotonic(5);
        let uid = "2c39abf0-f543-4c05-8cfe-3839410aef01";
        let unnamed = path(&format!("/kubepods/pod{uid}/{}", "a".repeat(64)));
        let host = path("/system.slice/x.service");
        subjects.naming.apply(Event::ListStarted, start);
        subjects.naming.apply(Event::Listed, start);
        assert!(!subjects.certainly_unprotected(start)(&unnamed));
        let later = start + NAMED_WITHIN + Duration::from_secs(1);
        assert!(!subjects.certainly_unmatched(later)(&unnamed), "a rule matches its path");
        assert!(subjects.certainly_unprotected(later)(&unnamed));
        assert!(!subjects.certainly_unprotected(later)(&host));
    }

    /// Of a pod that the API server does not list, the runtime's labels come after the list.
    #[test]
    fn a_pod_without_labels_may_yet_match_a_selector() {
        let rules = "rules: [{ name: r, pods: { selector: { matchLabels: { app: web } } }, \
                     oomGroup: single-process, protectInit: true }]";
        let policy = Policy::new(Config::parse(rules, "test").unwrap());
        let mut subjects = Subjects::new(Naming::new(true), Arc::new(policy), 0);
        let (start, uid, id) =
            (Monotonic(5), "2c39abf0-f543-4c05-8cfe-3839410aef01", "a".repeat(64));
        let cgroup = path(&format!("/kubepods/pod{uid}/{id}"));
        let named = || Pod::named(PodUid::parse(uid).unwrap(), "shop", "web-0");
        let pod = |labels| Pod { labels, ..named() };
        let mut is_left = |labels, now| {
            let id = ContainerId::parse(&id).unwrap();
            let (name, pod) = ("worker".into(), pod(labels).into());
            let learnt = RuntimeContainer { id, name, pod, init: None, instead_of: None };
            subjects.naming.learn(learnt, now);
            subjects.naming.apply(Event::ListStarted, now);
            subjects.naming.apply(Event::Listed, now);
            let is_unmatched = subjects.certainly_unmatched(now)(&cgroup);
            (is_unmatched, subjects.certainly_unprotected(now)(&cgroup))
        };
        assert_eq!(is_left(None, start), (false, false));
        assert_eq!(is_left(None, start + NAMED_WITHIN + Duration::from_secs(1)), (true, true));
        assert_eq!(is_left(Some([("app".into(), "web".into())].into()), start), (false, false));
        assert_eq!(is_left(Some([].into()), start), (true, true));
    }
}
