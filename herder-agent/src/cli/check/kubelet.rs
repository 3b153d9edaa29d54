//! Checks below which cgroups there are pods, and whether these cgroups belong to root.

use super::{Finding, Outcome, finding, ok, warn};
use herder_model::{cgroup::CgroupPath, owner::kubelet::KubeletRoots};
use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

/// Slices in slices: no kubelet's `--cgroup-root` is deeper.
const DEEPEST: usize = 16;

pub(super) fn pods(root: &Path, given: &[CgroupPath]) -> Finding {
    let roots = KubeletRoots::given(given);
    let mut found = Vec::new();
    match &roots {
        KubeletRoots::Given(paths) => {
            found.extend(paths.iter().filter(|path| directory(root, path).is_dir()).cloned());
        }
        KubeletRoots::WellKnown => look(root, &CgroupPath::root(), &roots, DEEPEST, &mut found),
    }
    let owner = |path: &CgroupPath| fs::metadata(directory(root, path)).map_or(0, |it| it.uid());
    let others: Vec<_> =
        found.iter().filter(|path| owner(path) != 0).map(CgroupPath::to_string).collect();
    let names: Vec<_> = found.iter().map(CgroupPath::to_string).collect();
    match (&names[..], &others[..]) {
        ([], _) if given.is_empty() => finding(
            Outcome::Ok,
            "no kubepods cgroup in the usual places",
            "if pods run here, give --kubelet-cgroup-root the kubelet's own --cgroup-root",
        ),
        ([], _) => warn(
            "no kubepods cgroup below --kubelet-cgroup-root",
            "give --kubelet-cgroup-root the kubelet's own --cgroup-root (cgroupRoot: in its configuration)",
        ),
        (names, []) => ok(format!("below {}", names.join(", "))),
        (_, others) => warn(
            format!(
                "{} does not belong to root, so cgroups below it are not taken for pods",
                others.join(", ")
            ),
            "run as uid 0 of the host's user namespace (no hostUsers: false), or chown it to root",
        ),
    }
}

fn directory(root: &Path, path: &CgroupPath) -> std::path::PathBuf {
    root.join(path.relative())
}

/// Looks below the few cgroups that may lead to one.
fn look(
    root: &Path,
    path: &CgroupPath,
    roots: &KubeletRoots,
    deeper: usize,
    found: &mut Vec<CgroupPath>,
) {
    let entries = fs::read_dir(directory(root, path)).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let Ok(child) = path.child(entry.file_name().as_bytes()) else { continue };
        let leads =
            child.name().ends_with(".slice") || ["/kubelet", "/kubepods"].contains(&child.as_str());
        if roots.contains(&child) {
            found.push(child.clone());
        }
        if leads && deeper > 0 && !roots.contains(&child) {
            look(root, &child, roots, deeper - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelets_cgroups_are_found() {
        let root = std::env::temp_dir().join(format!("herder-kubelet-{}", std::process::id()));
        let make = |path: &str| fs::create_dir_all(root.join(path)).unwrap();
        let path = |text: &str| CgroupPath::parse(text.as_bytes()).unwrap();
        make("system.slice/ci.service/kubepods");
        let says = |given: &[CgroupPath]| {
            let found = pods(&root, given);
            (found.outcome, found.found)
        };
        assert_eq!(says(&[]), (Outcome::Ok, "no kubepods cgroup in the usual places".into()));
        assert_eq!(says(&[path("/x")]).0, Outcome::Warn);
        make("kubepods.slice/kubepods-burstable.slice");
        make("kubelet.slice/kubelet-kubepods.slice");
        // The user that runs this test may not be root.
        let (_, found) = says(&[]);
        assert!(found.contains("/kubepods.slice"), "{found}");
        assert!(found.contains("/kubelet.slice/kubelet-kubepods.slice"), "{found}");
        assert!(!found.contains("ci.service"), "{found}");
        let (_, found) = says(&[path("/system.slice/ci.service")]);
        assert!(found.contains("/system.slice/ci.service/kubepods"), "{found}");
        fs::remove_dir_all(&root).unwrap();
    }
}
