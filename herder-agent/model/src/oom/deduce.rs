//! Kills from the kernel's counts alone, for nodes without eBPF.
//!
//! `memory.events.local` of a victim's cgroup counts processes (`oom_kill`), of the
//! cgroup that was killed as a group counts groups (`oom_group_kill`, Linux 5.17), and
//! of the cgroup that was over its limit counts that (`oom`). The counts have neither the victims'
//! processes nor which kills belong together. Whether the container's init was among them
//! follows from whether the container has processes left.

use super::{Domain, OomKill, Victim, classify::is_part_of};
use crate::{
    cgroup::{CgroupId, CgroupPath, counters::numbers},
    clock::Monotonic,
};
use std::{collections::HashMap, mem, time::Duration};

/// Counts of one kill are read one after the other; the kernel notifies of changes of a
/// file once in 10 ms (`CGROUP_FILE_NOTIFY_MIN_INTV`, kernel/cgroup/cgroup.c), and a
/// group of many processes takes its time.
const GATHER: Duration = Duration::from_millis(100);

/// How long a container may take to end with its init: first the memory
/// of the init is released, then the others of its pid namespace are killed.
const FATE: Duration = Duration::from_secs(2);

/// How long what was over its limit, or killed as a group, explains kills.
const EXPLAINS: Duration = Duration::from_secs(5);

/// Most processes that one reading of a file can report. A number in a file must not
/// fill the memory; what is beyond it shows in the node's count (`reconcile`).
const MOST: u64 = 100_000;

/// What `memory.events.local` says of a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times it was over its limit and nothing could be reclaimed.
    pub oom: u64,
    pub oom_kill: u64,
    /// Times it was killed as a group, if the kernel counts that.
    pub oom_group_kill: Option<u64>,
}

impl Counts {
    /// Parses the file; none if it has no `oom_kill`.
    pub fn parse(text: &str) -> Option<Self> {
        let find = |name: &str| numbers(text).find(|(key, _)| *key == name).map(|(_, it)| it);
        Some(Counts {
            oom: find("oom").unwrap_or(0),
            oom_kill: find("oom_kill")?,
            oom_group_kill: find("oom_group_kill"),
        })
    }
}

/// Something that explains kills.
#[derive(Debug)]
struct Sign {
    id: CgroupId,
    path: CgroupPath,
    at: Monotonic,
}

impl Sign {
    fn is_recent(&self, now: Monotonic) -> bool {
        now.saturating_duration_since(self.at) < EXPLAINS
    }
}

fn note(signs: &mut Vec<Sign>, place: Place<'_>, now: Monotonic) {
    signs.retain(|sign| sign.is_recent(now) && sign.id != place.id);
    signs.push(Sign { id: place.id, path: place.path.clone(), at: now });
}

/// Kills in one container that are not reported yet.
#[derive(Debug)]
struct Open {
    container: CgroupPath,
    /// Its id: another container may have the path later.
    id: Option<CgroupId>,
    /// It was alive before something else ended it.
    survived: bool,
    victims: Vec<(CgroupId, u64)>,
    since: Monotonic,
    /// When it is looked at next.
    due: Monotonic,
    /// The kernel does not count groups, and a `memory.oom.group` says that this is one.
    by_file: Option<Sign>,
}

/// Where a count was read.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub id: CgroupId,
    pub path: &'a CgroupPath,
    pub container: &'a CgroupPath,
    /// None if the container's own cgroup is not watched.
    pub container_id: Option<CgroupId>,
    /// The highest cgroup, from this one up to the container, whose `memory.oom.group` is 1.
    pub oom_group: Option<(CgroupId, &'a CgroupPath)>,
}

/// Turns changes of counts into kills. Pure; takes the time from its caller.
#[derive(Debug, Default)]
pub struct CountAssembler {
    counts: HashMap<CgroupId, Counts>,
    over_limit: Vec<Sign>,
    groups: Vec<Sign>,
    open: Vec<Open>,
}

impl CountAssembler {
    /// What a cgroup counted until now is not reported, unless its counts were read before.
    pub fn begin(&mut self, id: CgroupId, counts: Counts) {
        self.counts.entry(id).or_insert(counts);
    }

    pub fn read(&mut self, place: Place<'_>, counts: Counts, now: Monotonic) {
        let before = self.counts.insert(place.id, counts).unwrap_or_default();
        if counts.oom > before.oom {
            note(&mut self.over_limit, place, now);
        }
        if counts.oom_group_kill > before.oom_group_kill.or(Some(0)) {
            note(&mut self.groups, place, now);
        }
        let killed = counts.oom_kill.saturating_sub(before.oom_kill).min(MOST);
        if killed == 0 {
            return;
        }
        let by_file = place.oom_group.filter(|_| counts.oom_group_kill.is_none());
        let by_file = by_file.map(|(id, path)| Sign { id, path: path.clone(), at: now });
        let is_same = |open: &&mut Open| {
            open.container == *place.container && open.id == place.container_id && !open.survived
        };
        match self.open.iter_mut().find(is_same) {
            Some(open) => {
                open.victims.push((place.id, killed));
                open.by_file = open.by_file.take().or(by_file);
            }
            None => self.open.push(Open {
                container: place.container.clone(),
                id: place.container_id,
                survived: false,
                victims: vec![(place.id, killed)],
                since: now,
                due: now + GATHER,
                by_file,
            }),
        }
    }

    pub fn removed(&mut self, id: CgroupId) {
        self.counts.remove(&id);
    }

    /// A container is alive, and what ends it from now on is none of the kills until now.
    pub fn survived(&mut self, container: CgroupId) {
        let open = self.open.iter_mut().filter(|open| open.id == Some(container));
        open.for_each(|open| open.survived = true);
    }

    /// Containers with kills that are not reported yet.
    pub fn open(&self) -> impl Iterator<Item = &CgroupPath> {
        self.open.iter().map(|open| &open.container)
    }

    /// When [`Self::settle`] has something to do next.
    pub fn deadline(&self) -> Option<Monotonic> {
        self.open.iter().map(|open| open.due).min()
    }

    /// Returns the kills that are known well enough. `ended` says whether a container has
    /// no process left.
    pub fn settle(
        &mut self,
        now: Monotonic,
        ended: impl Fn(Option<CgroupId>, &CgroupPath) -> bool,
    ) -> Vec<OomKill> {
        let mut kills = Vec::new();
        for mut open in mem::take(&mut self.open) {
            let age = now.saturating_duration_since(open.since);
            let (group, whole) = self.group(&open);
            // What the kernel killed as a whole need not be waited for.
            let ended = whole || !open.survived && ended(open.id, &open.container);
            if age < GATHER || !(ended || open.survived || age >= FATE) {
                if open.due <= now {
                    open.due = now + GATHER;
                }
                self.open.push(open);
                continue;
            }
            let domain = self.domain(&open);
            open.report(domain, group, ended, &mut kills);
        }
        kills
    }

    /// The cgroup that was killed as a group, and whether it is all of the container.
    fn group(&self, open: &Open) -> (Option<CgroupId>, bool) {
        let highest = self.groups.iter().filter(|sign| open.concerns(sign));
        let highest = highest.min_by_key(|sign| sign.path.as_str().len());
        let group = open.by_file.as_ref().or(highest);
        let whole = group.is_some_and(|sign| !is_part_of(&sign.path, &open.container));
        (group.map(|sign| sign.id), whole)
    }

    /// The nearest cgroup that was over its limit; if none was, the node as a whole.
    fn domain(&self, open: &Open) -> Domain {
        let near = self.over_limit.iter().filter(|sign| open.concerns(sign));
        let nearest = near.max_by_key(|sign| sign.path.as_str().len());
        nearest.map_or(Domain::Node, |sign| Domain::Cgroup(sign.id))
    }
}

impl Open {
    /// Not long ago, in a cgroup inside of the container, in itself, or in one above.
    fn concerns(&self, sign: &Sign) -> bool {
        sign.is_recent(self.since)
            && (sign.path.is_within(&self.container) || self.container.is_within(&sign.path))
    }

    fn report(
        self,
        domain: Domain,
        group: Option<CgroupId>,
        ended: bool,
        kills: &mut Vec<OomKill>,
    ) {
        let victim = |id| Victim::nameless(id, self.since);
        let mut victims: Vec<_> =
            self.victims.iter().flat_map(|(id, times)| (0..*times).map(|_| victim(*id))).collect();
        let kill = |victims, ended| OomKill {
            victims,
            trigger: None,
            domain,
            group: Some(group.is_some()),
            group_cgroup: group,
            ended: Some(ended),
            candidates: None,
        };
        if group.is_some() {
            // The kernel counts the chosen victim of a group twice.
            if victims.len() > 1 {
                victims.pop();
            }
            kills.push(kill(victims, ended));
            return;
        }
        let last = victims.len().saturating_sub(1);
        // The container ends with its init, so that is the last of them.
        let each = victims.into_iter().enumerate();
        kills.extend(each.map(|(number, victim)| kill(vec![victim], ended && number == last)));
    }
}

#[cfg(test)]
mod tests;
