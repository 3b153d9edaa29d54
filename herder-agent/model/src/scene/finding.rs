//! What the scene of a kill shows, in one or two sentences: a table of rules, each of which has
//! something to say or not. Pure.
//!
//! The first rule of each group that fits says its sentence, and the first two sentences are the
//! finding. Where no rule fits, the figures are given and no reason. A rule compares with what
//! was in use at the decision; what files say of it was read some milliseconds later.

use super::{Process, Scene};
use crate::{
    cgroup::CgroupPath,
    oom::Limit,
    text::{clean, size},
};
use serde::Serialize;

/// A process that has more than this part of all has most of it, per cent.
const MOST: u64 = 50;

/// From this part on, shared memory, the kernel's or page cache is a reason, per cent.
const MUCH: u64 = 40;

/// From so many on, like processes may be too many.
const SEVERAL: usize = 3;

/// What comes before a process id in a sentence; `)` follows it.
const PID: &str = " (pid ";

/// The longest name of a container or cgroup in a sentence, letters.
const NAME: usize = 120;

/// What a scene shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// One or two sentences.
    pub text: String,
    /// The rules that they come from.
    pub rules: Vec<Rule>,
}

impl Finding {
    /// The sentences without process ids, which are the node's and mean nothing in a container.
    pub fn text_without_ids(&self) -> String {
        let mut parts = self.text.split(PID);
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let rest = part.trim_start_matches(|it: char| it.is_ascii_digit());
            text.push_str(rest.strip_prefix(')').unwrap_or(rest));
        }
        text
    }
}

labels! {
    /// A rule that has something to say.
    pub enum Rule {
        /// The limit of a cgroup above the container was hit.
        PodLimit = "pod-limit",
        /// The node ran out of memory.
        NodeFull = "node-full",
        /// tmpfs or shared memory is much of it.
        SharedMemory = "shared-memory",
        /// So is the kernel's memory.
        KernelMemory = "kernel-memory",
        /// So is page cache, which the kernel did not free.
        PageCache = "page-cache",
        /// One process has most of it.
        OneProcess = "one-process",
        /// Like processes have most of it together.
        LikeProcesses = "like-processes",
        /// The largest process was spared for its `oom_score_adj`.
        ScoreAdj = "score-adj",
        /// There is no swap left.
        SwapFull = "swap-full",
        /// None of these: the figures only.
        Figures = "figures",
    }
}

/// What is known of a kill beside its scene.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub limit: Limit,
    /// The cgroup whose limit was hit, if that is known.
    pub domain: Option<&'a CgroupPath>,
    /// Whether that is the pod's own.
    pub is_pod: bool,
    /// Whose the victim is, in the words of [`Process::owner`].
    pub owner: Option<&'a str>,
    /// All memory of the node, bytes.
    pub node: Option<u64>,
}

/// A rule's sentence, if it fits.
type Sentence = fn(&Facts<'_>) -> Option<String>;

/// The rules, in their groups. Of each group the first that fits counts.
const TABLE: [&[(Rule, Sentence)]; 3] = [
    // Whose memory it is about.
    &[(Rule::PodLimit, pod_limit), (Rule::NodeFull, node_full)],
    // What it is full of.
    &[
        (Rule::SharedMemory, shared_memory),
        (Rule::KernelMemory, kernel_memory),
        (Rule::PageCache, page_cache),
        (Rule::OneProcess, one_process),
        (Rule::LikeProcesses, like_processes),
    ],
    // Why it came to this victim.
    &[(Rule::ScoreAdj, score_adj), (Rule::SwapFull, swap_full)],
];

struct Facts<'a> {
    scene: &'a Scene,
    about: &'a About<'a>,
}

/// What a scene shows; none if nothing is known that could show something.
pub fn find(scene: &Scene, about: &About<'_>) -> Option<Finding> {
    let facts = Facts { scene, about };
    let fit = |group: &&[(Rule, Sentence)]| {
        group.iter().find_map(|(rule, sentence)| Some((*rule, sentence(&facts)?)))
    };
    let mut fitting: Vec<_> = TABLE.iter().filter_map(fit).take(2).collect();
    if fitting.is_empty() {
        fitting.push((Rule::Figures, figures(&facts)?));
    }
    let (rules, sentences): (Vec<_>, Vec<_>) = fitting.into_iter().unzip();
    Some(Finding { text: sentences.join(" "), rules })
}

impl Facts<'_> {
    /// What was in use when the kernel decided.
    fn whole(&self) -> Option<u64> {
        match self.about.limit {
            Limit::Node => self.about.node,
            _ => self.scene.memory.map(|memory| memory.usage),
        }
        .filter(|bytes| *bytes > 0)
    }

    /// A part of all, its per cent, and all, if it is at least so much. What was read later than
    /// the rest may be more than all.
    fn share(&self, part: u64, least: u64) -> Option<(u64, u64, u64)> {
        let whole = self.whole()?;
        let part = part.min(whole);
        let percent = u64::try_from(u128::from(part) * 100 / u128::from(whole)).ok()?;
        (percent >= least).then_some((part, percent, whole))
    }

    /// What files say of the cgroup whose limit was hit.
    fn stat(&self) -> Option<&super::figures::Stat> {
        // The victim's container is not what a node or a pod is full of.
        let own = self.scene.container.as_ref().filter(|_| self.about.limit == Limit::Container);
        self.scene.domain.as_ref().or(own).map(|figures| &figures.stat)
    }

    /// The most shared memory that a process has mapped: what only victims had went with them,
    /// before the files were read. It is no more than what is not the processes' own; the rest is
    /// charged elsewhere.
    fn mapped(&self) -> Option<u64> {
        let candidates = &self.scene.candidates;
        let mapped = candidates.iter().filter_map(|process| process.footprint);
        let mapped = mapped.map(|footprint| footprint.shmem_rss).max()?;
        let own = candidates.iter().map(Process::own).fold(0, u64::saturating_add);
        Some(mapped.min(self.whole()?.saturating_sub(own)))
    }

    fn victim(&self) -> Option<&Process> {
        self.scene.candidates.iter().find(|process| process.killed)
    }

    /// Whether the kernel looked at more processes than are listed.
    fn has_more(&self) -> bool {
        let listed = self.scene.candidates.len();
        self.scene.looked_at.is_some_and(|seen| usize::try_from(seen).is_ok_and(|it| it > listed))
    }
}

/// "512 MiB", of the memory of the node if it is about that.
fn of(whole: u64, facts: &Facts<'_>) -> String {
    let node = if facts.about.limit == Limit::Node { " of the node's memory" } else { "" };
    format!("{}{node}", size(whole))
}

fn pod_limit(facts: &Facts<'_>) -> Option<String> {
    let about = facts.about;
    if about.limit != Limit::Pod {
        return None;
    }
    let mut text = match (about.is_pod, about.domain) {
        (true, _) => "The pod's limit".to_owned(),
        (false, Some(domain)) => format!("The limit of {}", shortened(&domain.to_string())),
        (false, None) => "A limit above the container".to_owned(),
    };
    if let Some(limit) = facts.scene.memory.and_then(|memory| memory.limit) {
        text += &format!(" of {}", size(limit));
    }
    text += " was hit, not the container's";
    let mut owners: Vec<(&str, u64)> = Vec::new();
    for process in &facts.scene.candidates {
        let Some(owner) = process.owner.as_deref() else { continue };
        match owners.iter_mut().find(|(name, _)| *name == owner) {
            Some((_, sum)) => *sum = sum.saturating_add(process.own()),
            None => owners.push((owner, process.own())),
        }
    }
    if let Some((owner, sum)) = owners.into_iter().max_by_key(|(_, sum)| *sum) {
        let least = if facts.has_more() { "at least " } else { "" };
        let who = match about.owner {
            Some(own) if own == owner => {
                "the processes of the victim's container use the most".to_owned()
            }
            _ => format!("the processes of {} use the most", shortened(owner)),
        };
        text += &format!("; {who}, {least}{}", size(sum));
    }
    Some(text + ".")
}

fn node_full(facts: &Facts<'_>) -> Option<String> {
    if facts.about.limit != Limit::Node {
        return None;
    }
    let Some(most) = facts.scene.containers.first() else {
        return Some("The node ran out of memory.".to_owned());
    };
    let requests = match most.request {
        Some(bytes) => format!("it requests {}", size(bytes)),
        None => "it requests no memory".to_owned(),
    };
    let (owner, memory) = (shortened(&most.owner), size(most.memory));
    Some(format!(
        "The node ran out of memory; the container that uses the most is {owner} with {memory} ({requests})."
    ))
}

fn shared_memory(facts: &Facts<'_>) -> Option<String> {
    let stat = facts.stat().and_then(|stat| stat.shmem);
    let shmem = stat.into_iter().chain(facts.mapped()).max()?;
    let (shmem, percent, whole) = facts.share(shmem, MUCH)?;
    let (shmem, whole) = (size(shmem), of(whole, facts));
    Some(format!(
        "Shared memory or tmpfs (/dev/shm, an emptyDir in memory) takes {percent} %, {shmem} of {whole}."
    ))
}

fn kernel_memory(facts: &Facts<'_>) -> Option<String> {
    let kernel = facts.stat()?.kernel?;
    let (kernel, percent, whole) = facts.share(kernel, MUCH)?;
    let (kernel, whole) = (size(kernel), of(whole, facts));
    Some(format!(
        "Kernel memory (slab, page tables, stacks) takes {percent} %, {kernel} of {whole}."
    ))
}

fn page_cache(facts: &Facts<'_>) -> Option<String> {
    let stat = facts.stat()?;
    let cache = stat.cache()?;
    let (cache, percent, whole) = facts.share(cache, MUCH)?;
    let mut text = format!(
        "Page cache takes {percent} %, {} of {}, and the kernel could not free it",
        size(cache),
        of(whole, facts)
    );
    let unwritten = stat.file_dirty.unwrap_or(0).saturating_add(stat.file_writeback.unwrap_or(0));
    if unwritten > 0 {
        text += &format!("; {} was dirty or under writeback", size(unwritten));
    }
    Some(text + ".")
}

fn one_process(facts: &Facts<'_>) -> Option<String> {
    let process = facts.scene.candidates.iter().max_by_key(|process| process.own())?;
    let (own, _, whole) = facts.share(process.own(), MOST + 1)?;
    let whole = of(whole, facts);
    let (comm, pid, bytes) = (clean(&process.comm), process.pid, size(own));
    Some(format!("One process has most of the memory: {comm}{PID}{pid}), {bytes} of {whole}."))
}

fn like_processes(facts: &Facts<'_>) -> Option<String> {
    let mut kinds: Vec<(String, Vec<u64>)> = Vec::new();
    for process in facts.scene.candidates.iter().filter(|process| process.own() > 0) {
        let kind = kind(&process.comm);
        match kinds.iter_mut().find(|(name, _)| *name == kind) {
            Some((_, sizes)) => sizes.push(process.own()),
            None => kinds.push((kind, vec![process.own()])),
        }
    }
    // A child of another size is no like process.
    for (_, sizes) in &mut kinds {
        let largest = sizes.iter().copied().max().unwrap_or(0);
        sizes.retain(|size| *size >= largest / 2);
    }
    let sum = |sizes: &[u64]| sizes.iter().copied().fold(0, u64::saturating_add);
    let (name, sizes) = kinds.into_iter().max_by_key(|(_, sizes)| sum(sizes))?;
    let all = sum(&sizes);
    let (all, _, whole) = facts.share(all, MOST + 1).filter(|_| sizes.len() >= SEVERAL)?;
    let count = sizes.len();
    let mean = size(all / u64::try_from(count).unwrap_or(1));
    // Of those that are not listed some may be like these.
    let least = if facts.has_more() { "At least " } else { "" };
    let what = if facts.about.limit == Limit::Node { "node" } else { "limit" };
    let (all, whole, name) = (size(all), of(whole, facts), clean(&name));
    Some(format!(
        "{least}{count} processes named {name} have about {mean} each, {all} of {whole} together: too many for this {what}."
    ))
}

/// Names of workers often end in their number.
fn kind(comm: &str) -> String {
    let kind = comm.trim_end_matches(|letter: char| {
        letter.is_ascii_digit() || matches!(letter, '-' | '_' | '/' | ':' | '#')
    });
    if kind.is_empty() { comm } else { kind }.to_owned()
}

fn score_adj(facts: &Facts<'_>) -> Option<String> {
    let victim = facts.victim()?;
    let largest = facts.scene.candidates.first().filter(|largest| !largest.killed)?;
    let (adj, of_victim) = (largest.oom_score_adj?, victim.oom_score_adj?);
    if largest.size <= victim.size || adj >= of_victim {
        return None;
    }
    Some(format!(
        "The victim was not the largest process: {} has oom_score_adj {adj}, the victim {of_victim}.",
        with(largest, largest.size.unwrap_or(0))
    ))
}

fn swap_full(facts: &Facts<'_>) -> Option<String> {
    let swap = facts.scene.swap?;
    let limit = swap.limit.filter(|limit| *limit > 0)?;
    (swap.usage >= limit - limit / 64)
        .then(|| format!("Swap is full, {} of {}.", size(swap.usage), size(limit)))
}

/// No rule fits.
fn figures(facts: &Facts<'_>) -> Option<String> {
    let scene = facts.scene;
    let largest = scene.candidates.first().filter(|largest| largest.size.is_some());
    let largest = largest.map(|largest| {
        let count = match scene.looked_at {
            Some(1) => "the only process is".to_owned(),
            Some(count) => format!("the largest of {count} processes is"),
            None => "the largest process is".to_owned(),
        };
        format!("{count} {}", with(largest, largest.size.unwrap_or(0)))
    });
    let used = scene.memory.map(|memory| match memory.limit {
        Some(limit) => format!("{} of {} were in use", size(memory.usage), size(limit)),
        None => format!("{} were in use", size(memory.usage)),
    });
    let parts: Vec<_> = used.into_iter().chain(largest).collect();
    let text = parts.join("; ");
    let first = text.chars().next()?.to_uppercase();
    Some(format!("{first}{}.", text.chars().skip(1).collect::<String>()))
}

/// "gunicorn (pid 4711) with 412 MiB".
fn with(process: &Process, bytes: u64) -> String {
    format!("{}{PID}{}) with {}", clean(&process.comm), process.pid, size(bytes))
}

/// A name that leaves room for the rest of the sentence: its end says most.
fn shortened(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME {
        return name.escape_debug().to_string();
    }
    let end: String = name.chars().skip(length - NAME).collect();
    format!("…{}", end.escape_debug())
}

#[cfg(test)]
mod tests;
