//! The texts of Events. Pure.
//!
//! About a kill, a text has the victim and its memory, whose limit was hit, and how many
//! processes were left running. About a rule, it has the value or, where that is not
//! enforceable, what to do. A process chooses its own name, and a pod's creator its
//! annotations, so both are cut and cleaned.

use herder_model::{
    cgroup::CgroupPath,
    enforcement::Obstacle,
    escalation::{Escalate, Outcome, To, short},
    kill::KillReport,
    oom::{Kind, Limit, Victim, limit::Place},
    owner::{ContainerNames, Owner},
    pods::OOM_GROUP_ANNOTATION,
    rules::{annotation::AnnotationError, parse::ANNOTATION_RULE},
    shield::Unprotected,
    text::{clean, size},
};
use std::{fmt::Write, time::Duration};

/// The longest text; `events.k8s.io` allows no more
/// (`NoteLengthLimit`, pkg/apis/core/validation/events.go).
pub const LONGEST: usize = 1024;

/// A finding is part of a text that does not get longer than this with it.
const FOR_FINDING: usize = LONGEST - 100;

/// The text for what a kill did to one container, or to a pod outside of them. `spec` is the
/// memory limit in bytes that the pod's spec gives the container. [`left_running`] later adds
/// what is left running.
pub fn kill(report: &KillReport, container: &ContainerNames, spec: Option<u64>) -> String {
    let owned = report.kill.victims.iter().zip(&report.victim_owners);
    let victims: Vec<&Victim> = owned
        .filter(|(_, owner)| matches!(owner, Owner::Container(names) if names == container))
        .map(|(victim, _)| victim)
        .collect();
    let first = victims.first().filter(|first| first.is_named()).map(|first| process(first));
    let count = victims.len();
    // A process of the pod may be in no container, or its container is unknown.
    let (of, whole) = match container.container.as_str() {
        "" => ("the pod (container not known)".to_owned(), "A cgroup of the pod".to_owned()),
        name => (format!("container {name}"), format!("Container {name}")),
    };
    let mut text = match (report.kind, first) {
        (Kind::Subprocess, Some(first)) => {
            format!("Process {first} of {of} was killed")
        }
        (Kind::Subprocess, None) => format!("A process of {of} was killed"),
        (Kind::Init, Some(first)) => {
            format!("The main process {first} of {of} was killed")
        }
        (Kind::Init, None) => format!("The main process of {of} was killed"),
        (Kind::Group, Some(first)) => {
            let group = group(report, &whole, &of);
            format!("{group} was killed as a group ({count} seen), first {first},")
        }
        (Kind::Group, None) => {
            let group = group(report, &whole, &of);
            format!("{group} was killed as a group ({count} counted)")
        }
    } + " for lack of memory; ";
    text += &limit(report, container, spec);
    if report.exiting > 0 {
        text += " The kernel found no other process, because ";
        text += &match report.exiting {
            1 => "a larger one of the container was".to_owned(),
            count => format!("{count} larger ones of the container were"),
        };
        text += " still exiting.";
    }
    if report.ends && !container.container.is_empty() {
        text += " The container ends.";
    }
    // How many were left running, which comes last, must not be what is cut.
    if let Some(finding) =
        report.finding_of_pod().filter(|finding| text.len() + finding.text.len() < FOR_FINDING)
    {
        text = text + " " + &finding.text;
    }
    text
}

/// What was killed as a group: a container, or a part of one that it has made itself.
fn group(report: &KillReport, whole: &str, of: &str) -> String {
    match &report.group {
        Some(group) if !report.ends => {
            let name: String =
                group.name().chars().take(100).flat_map(char::escape_debug).collect();
            format!("The cgroup {name} of {of}")
        }
        _ => whole.to_owned(),
    }
}

/// Whose limit mattered, with its number where that is known.
fn limit(report: &KillReport, container: &ContainerNames, spec: Option<u64>) -> String {
    let limits = &report.limits;
    // A kill may hit several containers; what was read is of the chosen victim's.
    let is_own = matches!(&report.owner, Owner::Container(names) if names == container);
    let read = limits.container.filter(|_| is_own).and_then(|memory| memory.limit);
    let of = |bytes: Option<u64>| bytes.map_or_else(String::new, |it| format!(" of {}", size(it)));
    match (report.limit, limits.place) {
        (Limit::Container, Place::Inside) if is_own => {
            format!("the limit{} of a cgroup inside of the container was hit.", of(limits.bytes))
        }
        (Limit::Container, _) => match read.or(spec) {
            Some(bytes) => format!("the container's limit is {}.", size(bytes)),
            None => "the container's limit was hit.".to_owned(),
        },
        (Limit::Pod, Place::Above) => {
            let path = limits.cgroup.as_ref().map_or("a slice", CgroupPath::as_str);
            let path = path.escape_debug();
            format!("the limit{} of {path}, above the pod, was hit.", of(limits.bytes))
        }
        (Limit::Pod, _) => format!("the pod's limit{} was hit.", of(limits.bytes)),
        (Limit::Node, _) => "the node ran out of memory.".to_owned(),
        (Limit::Unknown, _) => "the kernel did not say whose limit was hit.".to_owned(),
    }
}

/// How a text about a killed process ends: with the number of processes of the
/// container that were left running, where it could be had. Whether it lives on is not known yet.
pub fn left_running(left: Option<usize>) -> String {
    match left {
        Some(0) => " No process of the container was left.".to_owned(),
        Some(1) => " 1 process of the container was left running.".to_owned(),
        Some(left) => format!(" {left} processes of the container were left running."),
        None => String::new(),
    }
}

/// The text for a container that ended some time after a process of it, with this name and id,
/// was killed.
pub fn ended(
    container: &str,
    victim: (Option<&str>, Option<u32>),
    after: Duration,
    why: Option<Obstacle>,
) -> String {
    let first = match victim {
        (Some(comm), Some(pid)) => format!("process {} (pid {pid})", clean(comm)),
        _ => "a process".to_owned(),
    };
    let why = match why {
        Some(Obstacle::SystemdOomPolicy) => {
            " systemd stops its scope at any OOM kill (OOMPolicy); the value must be right when \
             the container is created (kubelet singleProcessOOMKill, or NRI)."
        }
        _ => "",
    };
    let after = after.as_secs_f64();
    format!(
        "Container {container} ended {after:.1} s after {first} of it was killed for lack of memory.{why}"
    )
}

/// The text for a rule that is now enforced for a container. `group` is the value of
/// `memory.oom.group`.
pub fn enforced(container: &str, rule: &str, group: bool) -> String {
    let taken = if group { "all processes of the container" } else { "one process" };
    format!(
        "memory.oom.group of container {container} is now {}, as {} says: an OOM kill takes {taken}.",
        u8::from(group),
        by(rule)
    )
}

/// The text for a value that something keeps changing back.
pub fn reverted(container: &str, rule: &str, times: u64) -> String {
    format!(
        "memory.oom.group of container {container} was changed {times} times against {} \
         and corrected each time. Look for another agent, a runtime or a systemd unit that sets \
         it.",
        by(rule)
    )
}

/// The text for a rule that is not enforceable; `why` also says what to do.
pub fn not_enforceable(container: &str, rule: &str, why: &str) -> String {
    let by = by(rule);
    format!("The value of {by} is not enforceable for container {container}: {why}.")
}

/// The origin of a value: a rule by its name, or the pod itself.
fn by(rule: &str) -> String {
    if rule == ANNOTATION_RULE { "the pod's annotation".to_owned() } else { format!("rule {rule}") }
}

/// The text for what came of an escalation; `why`, if it did not go as the rule says.
pub fn escalated(
    container: &str,
    rule: &str,
    escalate: Escalate,
    outcome: Outcome,
    why: Option<&str>,
) -> String {
    let (after, within, by) = (escalate.after(), short(escalate.within()), by(rule));
    let times = if after == 1 {
        "An OOM kill hit a process".into()
    } else {
        format!("{after} OOM kills within {within} hit processes")
    };
    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
    let back = format!(
        "memory.oom.group is 1 until there was none for {within}: the next OOM kill takes all processes of the container."
    );
    let follows = match (outcome, escalate.to()) {
        (Outcome::Done, To::Restart) => {
            "all of its processes were killed, so that it is started anew.".to_owned()
        }
        (Outcome::Done, To::Group) => back,
        (Outcome::GroupInstead, _) => {
            format!("it was to be restarted, which is not possible here{why}. {back}")
        }
        _ => format!(
            "{} was to follow, and failed{why}.",
            match escalate.to() {
                To::Group => "memory.oom.group=1",
                To::Restart => "its restart",
            }
        ),
    };
    format!("{times} of container {container}. As {by} says, {follows}")
}

/// The text for an init that was exempt from OOM kills, and is no longer.
pub fn unprotected(container: &str, rule: &str, why: Unprotected) -> String {
    let why = match why {
        Unprotected::NoOtherVictim => {
            "the kernel found nothing else to kill for two seconds. The init has its own oom_score_adj \
             again and may be killed. Raise the limit, or let fewer processes of the container grow at once"
        }
        Unprotected::Changed => "it has changed its oom_score_adj, which is left alone",
        _ => "the kernel refused to exempt it again; the agent's log says why",
    };
    let by = by(rule);
    format!(
        "The init of container {container} is no longer exempt from OOM kills, which {by} asks for: {why}."
    )
}

/// The text for an init that is to have its own value back, and cannot be written.
pub fn unrestored(container: &str, why: &str) -> String {
    format!(
        "The init of container {container} is still exempt from OOM kills and should not be: its own \
         oom_score_adj cannot be restored ({why}). The agent tries it again every five seconds. A new \
         container has its own value."
    )
}

/// The text for an invalid annotation.
pub fn bad_annotation(value: &str, error: &AnnotationError) -> String {
    let value: String = value.chars().take(100).flat_map(char::escape_debug).collect();
    let annotation = error.annotation();
    let form = match annotation {
        OOM_GROUP_ANNOTATION => {
            "Use single-process, group or leave, or a list such as worker=single-process,sidecar=group"
        }
        _ => "Use a value such as 3/5m=restart or 3/5m=group",
    };
    format!(
        "The annotation {annotation} is \"{value}\", which is invalid: {error}. The pod is left \
         alone. {form}."
    )
}

/// A process: name, ids, and memory.
fn process(victim: &Victim) -> String {
    let mut text = format!("{} (pid {}", clean(&victim.comm), victim.tgid);
    if let Some(inside) = victim.ns_pid.filter(|inside| inside.level > 0) {
        let _infallible = write!(text, ", {} inside", inside.pid);
    }
    if let Some(sizes) = victim.sizes {
        let _infallible = write!(text, ", {} of memory", size(sizes.resident()));
    }
    text + ")"
}

/// Cuts a text to [`LONGEST`] bytes, between characters.
pub fn fit(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

#[cfg(test)]
mod tests;
