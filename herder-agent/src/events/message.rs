//! The texts of Events. Pure.
//!
//! About a kill, a text says who died and with how much memory, whose limit was
//! hit, and what goes on; about a rule, what holds and, where it cannot hold,
//! what to do. A process names itself and anybody can annotate his pod, so what
//! they wrote is cut and cleaned.

use crate::{
    oom::{Kind, Limit, OomKill, Sizes},
    pods::OOM_GROUP_ANNOTATION,
    report::{KillReport, Obstacle},
};
use std::fmt::Write;

/// The longest text; `events.k8s.io` allows no more
/// (`NoteLengthLimit`, pkg/apis/core/validation/events.go).
pub const LONGEST: usize = 1024;

/// The text for a kill in the container of this name. `limit` is the
/// container's memory limit in bytes; `left` the number of its processes that
/// go on, where known.
pub fn kill(
    report: &KillReport,
    container: &str,
    limit: Option<u64>,
    left: Option<usize>,
) -> String {
    let mut text = match report.kind {
        Kind::Subprocess => format!("Process {}", victim(&report.kill)),
        Kind::Init => format!("The main process {}", victim(&report.kill)),
        Kind::Group => format!(
            "All processes ({} seen) were killed as a group: {}",
            report.kill.victims.len(),
            victim(&report.kill)
        ),
    };
    let _infallible = write!(
        text,
        " of container {container} was killed for lack of memory; "
    );
    text += &match (report.limit, limit) {
        (Limit::Container, Some(limit)) => {
            format!("the container's limit is {}.", size(limit))
        }
        (Limit::Container, None) => "the container's limit was hit.".to_owned(),
        (Limit::Pod, _) => {
            "a limit above the container was hit: that of its pod or node slice.".to_owned()
        }
        (Limit::Node, _) => "the node ran out of memory.".to_owned(),
        (Limit::Unknown, _) => "the kernel did not say whose limit was hit.".to_owned(),
    };
    text += &match (report.kind, left) {
        (Kind::Subprocess, Some(1)) => " The container goes on with 1 process.".to_owned(),
        (Kind::Subprocess, Some(left)) => format!(" The container goes on with {left} processes."),
        (Kind::Subprocess, None) => " The container goes on.".to_owned(),
        (Kind::Init | Kind::Group, _) => " The container ends.".to_owned(),
    };
    text
}

/// The text for a rule that now holds for a container. `group` is the value of
/// `memory.oom.group`.
pub fn enforced(container: &str, rule: &str, group: bool) -> String {
    let behaviour = if group {
        "all processes of the container together"
    } else {
        "one process at a time"
    };
    format!(
        "Container {container} falls under rule {rule}: when memory runs out, the kernel now \
         kills {behaviour} (memory.oom.group={}).",
        u8::from(group)
    )
}

/// The text for a rule that somebody works against.
pub fn reverted(container: &str, rule: &str, times: u32) -> String {
    format!(
        "memory.oom.group of container {container} was changed {times} times against rule {rule} \
         and set again each time. Look for another agent, or a runtime or systemd unit, that \
         sets it."
    )
}

/// The text for a rule that cannot hold. `detail` names what is in the way.
pub fn not_enforceable(container: &str, rule: &str, obstacle: Obstacle, detail: &str) -> String {
    let advice = match obstacle {
        Obstacle::Ancestor => {
            "a cgroup above it is killed as a group: clear memory.oom.group there"
        }
        Obstacle::SystemdOomPolicy => {
            "systemd stops its scope after any OOM kill: set singleProcessOOMKill in the kubelet's \
             configuration and restart the container"
        }
        Obstacle::ReadOnly => {
            "the cgroup file system is read-only for the agent: mount /sys/fs/cgroup writable"
        }
        Obstacle::NoMemoryController => {
            "it has no memory.oom.group: the node needs cgroup v2 with the memory controller"
        }
        Obstacle::NoWatch => {
            "changes are noticed late: raise fs.inotify.max_user_watches on the node"
        }
    };
    format!("Rule {rule} cannot be made to hold for container {container}; {advice} ({detail}).")
}

/// The text for an annotation that cannot be understood.
pub fn bad_annotation(value: &str, error: &str) -> String {
    let value: String = value
        .chars()
        .take(100)
        .flat_map(char::escape_debug)
        .collect();
    format!(
        "The annotation {OOM_GROUP_ANNOTATION} is \"{value}\", which cannot be understood: {error}. \
         The pod is left alone. Use single-process, group or leave, or one for each container as \
         in worker=single-process,sidecar=group."
    )
}

/// The process that the kernel chose: name, ids, and memory.
fn victim(kill: &OomKill) -> String {
    let Some(victim) = kill.victims.first() else {
        return "(unknown)".to_owned();
    };
    let mut text = format!("{} (pid {}", clean(&victim.comm), victim.tgid);
    if let Some(inside) = victim.ns_pid.filter(|inside| inside.level > 0) {
        let _infallible = write!(text, ", {} inside", inside.pid);
    }
    if let Some(sizes) = victim.sizes {
        let _infallible = write!(text, ", {} of memory", size(resident(sizes)));
    }
    text + ")"
}

/// What the process held, as `ps` shows it in RSS.
fn resident(sizes: Sizes) -> u64 {
    sizes
        .anon_rss
        .saturating_add(sizes.file_rss)
        .saturating_add(sizes.shmem_rss)
}

/// Bytes in the largest unit that gives at least one, rounded down to tenths.
fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| bytes >> shift > 0) else {
        return format!("{bytes} B");
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole, tenth) => format!("{whole}.{tenth} {unit}"),
    }
}

/// A process name without what could mislead a terminal or a reader.
fn clean(comm: &str) -> String {
    comm.chars()
        .take(16)
        .map(|c| {
            if c.is_alphanumeric() || "-_./:+@".contains(c) {
                c
            } else {
                '?'
            }
        })
        .collect()
}

/// Cuts a text to [`LONGEST`] bytes, between characters.
pub fn fit(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attribution::Owner,
        cgroup::{CgroupId, CgroupPath},
        oom::{Domain, NsPid, Trigger, Victim},
    };

    fn report(kind: Kind, limit: Limit, comm: &str, sizes: Option<Sizes>) -> KillReport {
        let victim = Victim {
            time: 0,
            tid: 4711,
            tgid: 4711,
            ns_pid: Some(NsPid { pid: 7, level: 1 }),
            start_boottime: 0,
            cgroup: CgroupId(1),
            parent_cgroup: None,
            comm: comm.to_owned(),
            uid: 0,
            oom_score_adj: None,
            sizes,
        };
        let owner = Owner::Host {
            cgroup: CgroupPath::root(),
        };
        KillReport {
            kill: OomKill {
                trigger: Trigger {
                    tid: 1,
                    tgid: 1,
                    cgroup: CgroupId(1),
                    comm: "other".to_owned(),
                },
                domain: Domain::Unknown,
                group: None,
                victims: vec![victim.clone(), victim],
            },
            kind,
            limit,
            owner: owner.clone(),
            cgroup: None,
            victim_owners: vec![owner],
            rule: None,
        }
    }

    #[test]
    fn a_kill_is_told_in_full() {
        let sizes = Sizes {
            total_vm: 1 << 40,
            anon_rss: 48 << 20,
            file_rss: 512 << 10,
            shmem_rss: 0,
        };
        let text = |kind, limit_kind, limit, left| {
            kill(
                &report(kind, limit_kind, "worker", Some(sizes)),
                "main",
                limit,
                left,
            )
        };
        assert_eq!(
            text(Kind::Subprocess, Limit::Container, Some(64 << 20), Some(3)),
            "Process worker (pid 4711, 7 inside, 48.5 MiB of memory) of container main was killed \
             for lack of memory; the container's limit is 64 MiB. The container goes on with 3 processes."
        );
        assert_eq!(
            text(Kind::Init, Limit::Node, Some(64 << 20), None),
            "The main process worker (pid 4711, 7 inside, 48.5 MiB of memory) of container main was \
             killed for lack of memory; the node ran out of memory. The container ends."
        );
        let group = text(Kind::Group, Limit::Container, None, None);
        assert!(
            group.starts_with("All processes (2 seen) were killed as a group: worker (pid 4711")
        );
        assert!(group.ends_with("the container's limit was hit. The container ends."));
    }

    #[test]
    fn a_process_cannot_write_into_the_text() {
        let report = report(
            Kind::Subprocess,
            Limit::Unknown,
            "x\n\x1b[31m) of (\u{202e}",
            None,
        );
        let text = kill(&report, "main", None, None);
        assert!(text.starts_with("Process x???31m??of??? (pid"), "{text}");
    }

    #[test]
    fn rules_are_told_with_what_to_do() {
        assert_eq!(
            enforced("main", "jobs", false),
            "Container main falls under rule jobs: when memory runs out, the kernel now kills one \
             process at a time (memory.oom.group=0)."
        );
        assert!(enforced("main", "jobs", true).contains("all processes"));
        assert!(reverted("main", "jobs", 5).contains("5 times"));
        for obstacle in [
            Obstacle::Ancestor,
            Obstacle::SystemdOomPolicy,
            Obstacle::ReadOnly,
            Obstacle::NoMemoryController,
            Obstacle::NoWatch,
        ] {
            let text = not_enforceable("main", "jobs", obstacle, "/a/b");
            assert!(text.ends_with("(/a/b).") && text.contains(": "), "{text}");
        }
    }

    #[test]
    fn an_annotation_is_quoted_short_and_clean() {
        let text = bad_annotation(&format!("x\n\"{}", "y".repeat(500)), "no such value");
        assert!(text.contains(r#"is "x\n\"yyy"#), "{text}");
        assert!(text.len() < 500, "{text}");
    }

    #[test]
    fn sizes_are_short_and_texts_fit() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536 << 20, "1.5 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        assert_eq!(fit("é".repeat(600)).len(), LONGEST);
        assert_eq!(fit(format!("a{}", "é".repeat(600))).len(), LONGEST - 1);
    }
}
