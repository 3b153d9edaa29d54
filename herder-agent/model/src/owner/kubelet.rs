//! Below which cgroups the kubelet makes its pods.
//!
//! The owner of a cgroup may give its children the names of pods: a service with
//! `Delegate=`, a container of LXC or Docker, a user's session. So a cgroup is taken for a
//! pod's only where root alone can make it: below `kubepods` in the places where kubelets have
//! it, directly below the mount, or where the node's operator says. Pure.

use crate::cgroup::{CgroupPath, PathError};

/// The name of the cgroup that all pods are in.
const KUBEPODS: &str = "kubepods";

/// The same with the systemd driver.
const KUBEPODS_SLICE: &str = "kubepods.slice";

/// Whose subtree belongs to people logged in.
const USERS: &str = "user.slice";

/// Where pods may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KubeletRoots {
    /// Where kubelets have them, in the mount's root or one below.
    #[default]
    WellKnown,
    /// Where the operator says, and nowhere else.
    Given(Vec<CgroupPath>),
}

impl KubeletRoots {
    /// The paths of `kubepods` below what the operator gave: the kubelet's own
    /// `--cgroup-root`, or `kubepods` itself. Nothing given is not known.
    pub fn given(roots: &[CgroupPath]) -> Self {
        if roots.is_empty() {
            return KubeletRoots::WellKnown;
        }
        let paths = roots.iter().flat_map(|root| {
            let itself = is_kubepods(root.name()).then(|| root.clone());
            itself.map_or_else(|| below(root), |root| vec![root])
        });
        KubeletRoots::Given(paths.collect())
    }

    /// Whether the cgroup of these names, from the mount's root, is such a `kubepods`.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        match self {
            KubeletRoots::WellKnown => is_well_known(names),
            KubeletRoots::Given(paths) => paths.iter().any(|path| {
                let own = path.as_str().split('/').skip(1);
                own.eq(names.iter().copied())
            }),
        }
    }

    /// Whether pods are right below this cgroup, or below their quality-of-service
    /// classes in it.
    pub fn contains(&self, path: &CgroupPath) -> bool {
        is_kubepods(path.name()) && self.has(&path.as_str().split('/').skip(1).collect::<Vec<_>>())
    }
}

/// Takes a path as it is given to a flag.
pub fn parse(text: &str) -> Result<CgroupPath, PathError> {
    let plain = text.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(text);
    CgroupPath::parse(plain.as_bytes())
}

fn is_kubepods(name: &str) -> bool {
    name == KUBEPODS || name == KUBEPODS_SLICE || name.ends_with("-kubepods.slice")
}

/// kind's kubelets have `/kubelet`, Docker Desktop's `/kubepods`. A
/// slice lies in slices only, down from the mount's root, and only root has systemd make
/// them; those of users are named by users.
fn is_well_known(names: &[&str]) -> bool {
    match names {
        [KUBEPODS] | ["kubelet" | KUBEPODS, KUBEPODS] => true,
        [first, ..] => {
            let depth = |slice: &str| slice.matches('-').count() + 1;
            *first != USERS
                && names
                    .iter()
                    .enumerate()
                    .all(|(at, name)| name.ends_with(".slice") && depth(name) == at + 1)
        }
        [] => false,
    }
}

/// Where a kubelet with this `--cgroup-root` has its pods: with cgroupfs in that very
/// cgroup; with systemd in the slice that the path stands for, where `-` separates names
/// (`ToSystemd()`, pkg/kubelet/cm/cgroup_manager_linux.go).
fn below(root: &CgroupPath) -> Vec<CgroupPath> {
    let child = |path: &CgroupPath, name: &str| path.child(name.as_bytes()).ok();
    let mut paths: Vec<_> =
        [KUBEPODS, KUBEPODS_SLICE].iter().filter_map(|name| child(root, name)).collect();
    if let Some(slice) = root.name().strip_suffix(".slice") {
        paths.extend(child(root, &format!("{slice}-{KUBEPODS_SLICE}")));
        return paths;
    }
    let mut slices = CgroupPath::root();
    let mut prefix = String::new();
    for name in root.as_str().split('/').filter(|name| !name.is_empty()) {
        prefix += &name.replace('-', "_");
        let Some(slice) = child(&slices, &format!("{prefix}.slice")) else { return paths };
        slices = slice;
        prefix.push('-');
    }
    paths.extend(child(&slices, &format!("{prefix}{KUBEPODS_SLICE}")));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(texts: &[&str]) -> KubeletRoots {
        let paths: Vec<_> = texts.iter().map(|text| parse(text).unwrap()).collect();
        KubeletRoots::given(&paths)
    }

    #[test]
    fn what_is_given_stands_for_both_drivers() {
        let table = [
            ("/", &["/kubepods", "/kubepods.slice"][..]),
            ("/kubelet", &["/kubelet/kubepods", "/kubelet.slice/kubelet-kubepods.slice"]),
            ("/a/b-c/", &["/a/b-c/kubepods", "/a.slice/a-b_c.slice/a-b_c-kubepods.slice"]),
            ("/a.slice/a-b.slice", &["/a.slice/a-b.slice/a-b-kubepods.slice"]),
            ("/x/kubepods", &["/x/kubepods"]),
            ("/x.scope/kubelet.slice", &["/x.scope/kubelet.slice/kubelet-kubepods.slice"]),
            ("/kubelet.slice/kubelet-kubepods.slice", &["/kubelet.slice/kubelet-kubepods.slice"]),
        ];
        for (given, expected) in table {
            let roots = roots(&[given, "/other"]);
            for path in expected {
                assert!(roots.contains(&parse(path).unwrap()), "{given}: {path} of {roots:?}");
            }
            assert!(roots.contains(&parse("/other/kubepods").unwrap()));
            for path in ["/elsewhere/kubepods", "/", "/kubepodsx"] {
                assert!(!roots.contains(&parse(path).unwrap()), "{given}: {path}");
            }
        }
        assert!(!roots(&["/kubelet"]).contains(&parse("/kubepods").unwrap()), "nowhere else");
        assert_eq!(KubeletRoots::given(&[]), KubeletRoots::WellKnown);
        for bad in ["", "kubepods", "/a//b", "/../x"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_root_makes_what_is_well_known() {
        let good = [
            "/kubepods",
            "/kubepods.slice",
            "/kubelet/kubepods",
            "/kubepods/kubepods",
            "/kubelet.slice/kubelet-kubepods.slice",
            "/a.slice/a-b.slice/a-b-kubepods.slice",
        ];
        let bad = [
            "/",
            "/lxc.payload.c1/kubepods",
            "/lxc.payload.c1/kubepods.slice",
            "/system.slice/ci-runner.service/kubepods",
            "/system.slice/ci-runner.service/kubepods.slice",
            "/system.slice/docker-1.scope/kubelet/kubepods",
            "/system.slice/docker-1.scope/kubelet.slice/kubelet-kubepods.slice",
            "/system.slice/kubepods",
            "/docker/1/kubepods",
            "/machine.slice/x/kubepods",
            "/user.slice/user-kubepods.slice",
            "/user.slice/user-1000.slice/user-1000-kubepods.slice",
            "/x/kubepods",
            "/x.slice/kubepods.slice",
            "/kubepods/kubepods/kubepods",
            "/kubelet.slice",
        ];
        for (paths, expected) in [(&good[..], true), (&bad[..], false)] {
            for path in paths {
                let found = KubeletRoots::WellKnown.contains(&parse(path).unwrap());
                assert_eq!(found, expected, "{path}");
            }
        }
    }
}
