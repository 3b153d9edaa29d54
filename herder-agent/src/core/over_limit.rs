//! Reads whose limit was hit from the cgroups' files, where no program can say it.

use super::Core;
use crate::kernel::cgroupfs::{CgroupFs, dir::EVENTS};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    oom::{Domain, deduce::Counts, event::Mark},
};
use std::iter;

impl Core {
    /// What the cgroups that are there at the start have counted until now.
    pub(super) fn begin_over_limit(&mut self) {
        let Some(over_limit) = &mut self.kills.over_limit else { return };
        for (id, path) in self.cgroups.tree.living() {
            if let Some((_, oom)) = counted(&self.files, path) {
                over_limit.begin(id, oom);
            }
        }
    }

    /// Finds out whose limit a mark's kill is about, if no record will say it. This is done at
    /// once, since the victim's cgroup may soon be gone.
    pub(super) fn find_over_limit(&mut self, mark: &Mark) {
        if self.kills.over_limit.is_none() || !self.kills.assembler.wants_domain(mark.trigger.tid) {
            return;
        }
        let cgroup = mark.victim.memory_cgroup.unwrap_or(mark.victim.cgroup);
        let Some(path) = self.cgroups.path_or_above(cgroup, &self.subjects) else { return };
        let domain = self.domain(&path);
        self.kills.assembler.set_domain(mark.trigger.tid, domain);
    }

    fn domain(&mut self, path: &CgroupPath) -> Domain {
        let now = self.clock.now();
        let Some(over_limit) = &mut self.kills.over_limit else { return Domain::Unknown };
        let upwards = iter::once(path.clone()).chain(path.ancestors());
        let upwards = upwards.filter(|path| *path != CgroupPath::root());
        let counts = upwards.map(|path| counted(&self.files, &path));
        over_limit.domain(counts, now)
    }
}

/// The id of a cgroup and how often it was over its limit; none if it is gone. One without a
/// memory controller has no limit.
fn counted(files: &CgroupFs, path: &CgroupPath) -> Option<(CgroupId, u64)> {
    let id = files.id(path)?;
    let text = files.read(path, EVENTS).unwrap_or_default();
    Some((id, Counts::parse(&text).map_or(0, |counts| counts.oom)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_cgroup_that_is_gone_is_no_cgroup_without_a_limit() {
        let name = format!("herder-over-limit-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let (files, root) = (CgroupFs::new(directory.clone()), CgroupPath::root());
        fs::create_dir_all(&directory).unwrap();
        assert!(matches!(counted(&files, &root), Some((_, 0))), "no memory controller");
        fs::write(directory.join(EVENTS), "max 9\noom 3\noom_kill 1\n").unwrap();
        assert!(matches!(counted(&files, &root), Some((_, 3))));
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(counted(&files, &root), None);
    }
}
