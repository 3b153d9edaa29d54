//! Whose limit was hit and whether a group died, where functions cannot be traced: by what the
//! programs read of the cgroups at the mark or, without BTF, by the cgroups' files.

use super::{Core, describe::Surroundings};
use crate::kernel::cgroupfs::{CgroupFs, dir::EVENTS};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    oom::{
        Domain,
        deduce::Counts,
        event::Mark,
        levels::{Inferred, Levels},
    },
};

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

    /// What a victim's memory cgroups said while it was marked: the mark itself comes next.
    pub(super) fn take_levels(&mut self, levels: Levels) {
        self.kills.assembler.begins_within(&levels);
        self.kills.levels = Some(levels);
    }

    /// Infers of a mark's kill whose limit it is about and whether a group dies, if no record
    /// will say it. What no program could read is read from files at once, since the victim's
    /// cgroup may soon be gone.
    pub(super) fn infer(&mut self, mark: &Mark) {
        // Between the two may be a victim that was marked by another thread, and has exited.
        let levels = self.kills.levels.take_if(|it| it.trigger == mark.trigger.tid);
        let Some(over_limit) = &mut self.kills.over_limit else { return };
        let is_wanted = self.kills.assembler.wants_inferred(mark.trigger.tid);
        let inferred = match levels {
            // Also of a mark that needs no answer, such as that of a dying task: what was counted
            // until then explains no later kill.
            Some(levels) => {
                Some(levels.inferred(over_limit, self.cgroups.begins_at, mark.victim.time))
            }
            None if is_wanted => self.infer_by_files(mark),
            None => None,
        };
        if let Some(inferred) = inferred.filter(|_| is_wanted) {
            self.kills.assembler.set_inferred(mark.trigger.tid, inferred);
        }
    }

    /// Reads again what a container and the cgroups above it have counted, some time after a kill.
    /// Threads that were over the limit with the first may have been counted after its mark, and have
    /// then found enough free memory. That explains no kill that comes long after.
    pub(super) fn recount_over_limit(&mut self, container: &CgroupPath) {
        if self.kills.over_limit.is_some() {
            self.domain(container);
        }
    }

    fn infer_by_files(&mut self, mark: &Mark) -> Option<Inferred> {
        let cgroup = mark.victim.memory_cgroup.unwrap_or(mark.victim.cgroup);
        let path = self.cgroups.path_or_above(cgroup, &self.subjects)?;
        let domain = self.domain(&path);
        let around =
            Surroundings { cgroups: &self.cgroups, subjects: &self.subjects, files: &self.files };
        let (group, path) = around.group_by_file(Some(&path));
        let group_cgroup = path.and_then(|path| self.files.id(&path));
        Some(Inferred { domain, group, group_cgroup })
    }

    fn domain(&mut self, path: &CgroupPath) -> Domain {
        let now = self.clock.now();
        let Some(over_limit) = &mut self.kills.over_limit else { return Domain::Unknown };
        let upwards = path.upwards().filter(|path| *path != CgroupPath::root());
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
