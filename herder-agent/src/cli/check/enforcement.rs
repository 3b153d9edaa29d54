//! Whether `memory.oom.group` can be enforced here: does what `run` does with the cgroups that a
//! rule matches, short of changing a value, by the same code (a dry run of the enforcer).

use super::{Finding, Outcome, escalation, finding, ok, warn};
use crate::{
    cli::args::NodeArgs,
    enforce::{ContainerState, Enforcer, Options, Origin, Place},
    kernel::{
        cgroupfs::{dir::CgroupRoot, walk},
        clock::Clock,
    },
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath, OOM_GROUP},
    escalation::To,
    owner::{Owner, kubelet::KubeletRoots, path::PodCgroup},
    rules::{
        matching::{Policy, Subject, SubjectPod, Target, Verdict},
        parse::{Config, Selects},
    },
};
use rustix::fs::StatVfsMountFlags;
use std::{
    collections::HashSet,
    fs, iter,
    ops::ControlFlow,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Rules that are named in one line.
const NAMED: usize = 20;

/// Cgroups whose paths take more are not looked at: `check` shares the agent's memory limit.
const MOST_BYTES: usize = 4 << 20;

/// Where a cgroup is, by its id.
type Cgroup = (CgroupId, CgroupPath);

pub(super) fn all(args: &NodeArgs, config: &Config) -> Vec<(&'static str, Finding)> {
    let root = &args.cgroup_root;
    let (mut cgroups, mut bytes) = (Vec::new(), 0);
    // What cannot be read is another check's.
    let _ = walk::walk(root, |part| {
        bytes += part.iter().map(|(_, path)| path.as_str().len()).sum::<usize>();
        cgroups.extend(part);
        if bytes < MOST_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    cgroups.sort_by(|(_, one), (_, other)| one.cmp(other));
    let transient = args.systemd_transient_dir.clone();
    let roots = KubeletRoots::given(&args.kubelet_cgroup_root);
    let trial = Trial { root, roots, transient };
    let policy = Policy::new(config.clone());
    let enforcement = trial.enforcement(&policy, &cgroups);
    let restart = escalation::restart(config, root, trial.restarted(&policy, &cgroups));
    let restart = restart.map(|restart| ("restart", restart));
    let rules = rules(config, &cgroups).map(|rules| ("rules", rules));
    iter::once(("enforcement", enforcement)).chain(restart).chain(rules).collect()
}

struct Trial<'a> {
    root: &'a Path,
    roots: KubeletRoots,
    transient: PathBuf,
}

impl Trial<'_> {
    fn enforcement(&self, policy: &Policy, cgroups: &[Cgroup]) -> Finding {
        let matched: Vec<_> = cgroups
            .iter()
            .filter_map(|cgroup| match decide(policy, &cgroup.1) {
                Verdict::Matched(target) => Some((cgroup, target)),
                _ => None,
            })
            .collect();
        if matched.is_empty() {
            return self.stand_in(cgroups);
        }
        let tried: Vec<_> = matched
            .into_iter()
            .filter_map(|(cgroup, target)| self.dry_run(cgroup, target))
            .collect();
        let bad: Vec<_> = tried.iter().filter(|state| state.obstacle.is_some()).collect();
        match (bad.first(), tried.first()) {
            (Some(first), _) => not_enforceable(
                first,
                &format!("{} of {} cgroups that rules match", bad.len(), tried.len()),
                &format!("rule {}", first.rule),
            ),
            (None, Some(first)) => {
                let others = match tried.len() - 1 {
                    0 => String::new(),
                    others => format!(", and {others} more that rules match"),
                };
                let found = format!(
                    "{} (rule {} matches it) was opened for writing and watched{others}",
                    first.cgroup, first.rule
                );
                ok(found)
            }
            (None, None) => {
                ok("nothing was tried: the cgroups that rules match were removed meanwhile")
            }
        }
    }

    /// No rule matches anything now: one that a rule could be for.
    fn stand_in(&self, cgroups: &[Cgroup]) -> Finding {
        let file = |path: &CgroupPath| self.root.join(path.relative()).join(OOM_GROUP);
        let owned =
            |(_, path): &&Cgroup| fs::symlink_metadata(file(path)).ok().map(|file| file.uid());
        let some = cgroups.iter().filter(|cgroup| owned(cgroup) == Some(0));
        let parents: HashSet<_> = cgroups.iter().filter_map(|(_, path)| path.parent()).collect();
        let chosen = some.min_by_key(|(_, path)| (self.likeness(path), parents.contains(path)));
        // With 1 nothing around it counts, and what is around it is not ours to judge.
        let target = Target::new("none".into(), true);
        if let Some(state) = chosen.and_then(|chosen| self.dry_run(chosen, target)) {
            let why =
                "no rule with cgroups: matches anything now; tried with a cgroup of root instead";
            if state.obstacle.is_some() {
                return not_enforceable(&state, why, "root's");
            }
            let found = format!("{why}: {} was opened for writing and watched", state.cgroup);
            return ok(found);
        }
        let read_only = rustix::fs::statvfs(self.root)
            .is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
        if read_only {
            let found = format!("{} is read-only", self.root.display());
            let mend = "mount it read-write: a hostPath volume of /sys/fs/cgroup without readOnly";
            return warn(found, mend);
        }
        if cgroups.iter().any(|cgroup| owned(&cgroup).is_some()) {
            let found = "nothing was tried: no rule with cgroups: matches anything now, and no cgroup belongs to root";
            let mend = "run in the host's user namespace (no hostUsers: false), or try again while a container runs that a rule matches";
            return warn(found, mend);
        }
        let found = "nothing was tried: no cgroup has a memory.oom.group now";
        ok(found)
    }

    /// A cgroup that a rule restarts, or one of root's that is most like such.
    fn restarted<'c>(&self, policy: &Policy, cgroups: &'c [Cgroup]) -> Option<&'c Cgroup> {
        let is_restarted = |(_, path): &&Cgroup| match decide(policy, path) {
            Verdict::Matched(target) => target.escalate.is_some_and(|it| it.to() == To::Restart),
            _ => false,
        };
        let is_roots = |(_, path): &&Cgroup| {
            *path != CgroupPath::root()
                && fs::symlink_metadata(self.root.join(path.relative()))
                    .is_ok_and(|directory| directory.uid() == 0)
        };
        let like = || cgroups.iter().filter(is_roots).min_by_key(|(_, path)| self.likeness(path));
        cgroups.iter().find(is_restarted).or_else(like)
    }

    /// How much a cgroup looks like one that rules are for, least first.
    fn likeness(&self, path: &CgroupPath) -> u8 {
        let pod = PodCgroup::below(&self.roots, path);
        match path.name() {
            _ if pod.is_some_and(|pod| pod.container().is_some()) => 0,
            name if name.ends_with(".scope") => 1,
            name if name.ends_with(".service") => 2,
            _ => 3,
        }
    }

    /// What `run` would say of a cgroup; nothing if it is gone.
    fn dry_run(&self, (id, path): &Cgroup, target: Target) -> Option<ContainerState> {
        let options = Options {
            dry_run: true,
            restore_on_exit: false,
            descriptors: i32::MAX,
            systemd_transient: self.transient.clone(),
            built_within: Duration::ZERO,
        };
        let mut enforcer = Enforcer::new(CgroupRoot::open(self.root).ok(), options, Clock::System);
        let owner = Owner::Host { cgroup: path.clone() };
        let place = Place { path, scope: None };
        enforcer.govern(*id, place, Origin::Existing, target, owner);
        enforcer.survey_some();
        enforcer.states(None, 1).states.pop()
    }
}

fn not_enforceable(state: &ContainerState, of: &str, why: &str) -> Finding {
    let reason = state.obstacle.map_or("", |obstacle| obstacle.as_str());
    let found = format!("{of}: {} ({why}) is not enforceable: {reason}", state.cgroup);
    warn(found, state.explanation.as_deref().unwrap_or_default())
}

fn decide(policy: &Policy, path: &CgroupPath) -> Verdict {
    policy.decide(&Subject { cgroup: path, pod: SubjectPod::None })
}

/// Which rules match something now.
fn rules(config: &Config, cgroups: &[Cgroup]) -> Option<Finding> {
    let policy = Policy::new(config.clone());
    let verdicts: Vec<_> = cgroups.iter().map(|(_, path)| decide(&policy, path)).collect();
    let (mut idle, mut busy, mut pods) = (Vec::new(), Vec::new(), 0);
    for rule in &config.rules {
        if matches!(rule.selects, Selects::Pods(_)) {
            pods += 1;
            continue;
        }
        let of_it = |verdict: &&Verdict| match verdict {
            Verdict::Matched(target) => target.rule == rule.name,
            Verdict::Leave { rule: name } => *name == rule.name,
            _ => false,
        };
        let name = &rule.name;
        match verdicts.iter().filter(of_it).count() {
            0 => {
                let alone = Policy::new(Config { rules: vec![rule.clone()], ..Config::default() });
                let any =
                    cgroups.iter().any(|(_, path)| decide(&alone, path) != Verdict::Unmatched);
                let why = if any { "only cgroups that earlier rules match" } else { "nothing" };
                idle.push(format!("{name} matches {why} now"));
            }
            1 => busy.push(format!("{name} matches 1 cgroup")),
            many => busy.push(format!("{name} matches {many} cgroups")),
        }
    }
    let outcome = if idle.is_empty() { Outcome::Ok } else { Outcome::Warn };
    let of_cgroups = idle.len() + busy.len();
    let mut parts: Vec<String> = idle.into_iter().chain(busy).take(NAMED).collect();
    if of_cgroups > NAMED {
        parts.push(format!("and {} more rules for cgroups", of_cgroups - NAMED));
    }
    if pods > 0 {
        parts.push(format!("rules for pods cannot be checked without the API server: {pods}"));
    }
    let mend = if outcome == Outcome::Warn {
        "if their containers run now, compare the patterns with their paths (systemd-cgls): a pattern begins below the mount, and * does not cross /"
    } else {
        ""
    };
    (!parts.is_empty()).then(|| finding(outcome, parts.join("; "), mend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A directory that looks like a cgroup mount.
    struct Fake(PathBuf);

    impl Fake {
        fn new(name: &str, paths: &[&str]) -> Self {
            let root =
                std::env::temp_dir().join(format!("herder-check-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            for path in paths {
                fs::create_dir_all(root.join(path)).unwrap();
                fs::write(root.join(path).join("cgroup.procs"), "").unwrap();
                fs::write(root.join(path).join(OOM_GROUP), "1\n").unwrap();
            }
            Fake(root)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn config(rules: &str) -> Config {
        Config::parse(rules, "rules.yaml").unwrap()
    }

    fn paths(paths: &[&str]) -> Vec<Cgroup> {
        let parse = |path: &&str| CgroupPath::parse(path.as_bytes()).unwrap();
        paths.iter().map(parse).zip(1..).map(|(path, id)| (CgroupId(id), path)).collect()
    }

    #[test]
    fn each_rule_is_recognised_by_what_it_matches_now() {
        let config = config(
            "rules:\n\
             - {name: docker, cgroups: ['/system.slice/docker-*.scope'], oomGroup: single-process}\n\
             - {name: one, cgroups: ['/system.slice/docker-2.scope'], oomGroup: group}\n\
             - {name: podman, cgroups: ['/machine.slice/libpod-[0-9a-f][0-9a-f]*.scope'], oomGroup: group}\n\
             - {name: mine, cgroups: ['/mine'], oomGroup: leave}\n\
             - {name: web, pods: {namespaces: [shop]}, oomGroup: group}\n",
        );
        let cgroups =
            paths(&["/", "/mine", "/system.slice/docker-1.scope", "/system.slice/docker-2.scope"]);
        let finding = rules(&config, &cgroups).unwrap();
        assert_eq!(
            finding.found,
            "one matches only cgroups that earlier rules match now; podman matches nothing now; \
             docker matches 2 cgroups; mine matches 1 cgroup; \
             rules for pods cannot be checked without the API server: 1"
        );
        assert_eq!(finding.outcome, Outcome::Warn);
        assert_eq!(rules(&Config::default(), &cgroups), None);
    }

    /// Also where the operator says that pods are.
    #[test]
    fn what_looks_like_a_container_stands_in_for_one() {
        let container = "/kubepods/besteffort/pod0a1b2c3d-0000-4000-8000-000000000001/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let given = format!("/mine{container}");
        let others = ["/system.slice/docker-1.scope", "/system.slice/a.service", "/a"];
        let parse = |path: &str| CgroupPath::parse(path.as_bytes()).unwrap();
        let ranks = |roots: &[CgroupPath]| {
            let roots = KubeletRoots::given(roots);
            let trial = Trial { root: Path::new("/"), roots, transient: PathBuf::new() };
            let ranked = [container, &given].into_iter().chain(others);
            ranked.map(|path| trial.likeness(&parse(path))).collect::<Vec<_>>()
        };
        assert_eq!(ranks(&[]), [0, 3, 1, 2, 3]);
        assert_eq!(ranks(&[parse("/mine")]), [3, 0, 1, 2, 3]);
    }

    /// The finding also says why a mount of something else is no trial.
    #[test]
    fn without_a_cgroup_mount_it_is_said() {
        let fake = Fake::new("mount", &["a"]);
        fs::set_permissions(fake.0.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        let roots = KubeletRoots::default();
        let trial = Trial { root: &fake.0, roots, transient: PathBuf::new() };
        let policy = Policy::new(config(
            "rules:\n- {name: all, cgroups: ['/*'], oomGroup: single-process}\n",
        ));
        let finding = trial.enforcement(&policy, &paths(&["/a"]));
        assert_eq!(finding.outcome, Outcome::Warn);
        assert!(finding.found.contains("/a (rule all) is not enforceable"), "{}", finding.found);
    }
}
