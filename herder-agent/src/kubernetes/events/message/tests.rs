use super::*;
use crate::{kubernetes::events::Reason, report::Reporter};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    oom::{
        NsPid, OomKill, Sizes, Trigger,
        limit::{Limits, Memory},
    },
    scene::{
        Scene,
        finding::{Finding, Rule},
    },
};
use std::sync::Arc;

fn names(container: &str) -> ContainerNames {
    let [namespace, pod, container] = ["shop", "cart-0", container].map(str::to_owned);
    ContainerNames { namespace, pod, container }
}

/// A kill of two processes in `main` and one in `side`.
fn report(kind: Kind, limit: Limit, comm: &str, sizes: Option<Sizes>) -> KillReport {
    let victim = |tgid| Victim {
        tid: tgid,
        tgid,
        ns_pid: Some(NsPid { pid: 7, level: 1 }),
        comm: comm.to_owned(),
        sizes,
        ..Victim::nameless(CgroupId(1), Monotonic::ZERO)
    };
    let trigger = Trigger { tid: 1, tgid: 1, cgroup: CgroupId(1), comm: "other".to_owned() };
    let owners = ["main", "main", "side"].map(|name| Owner::Container(names(name)));
    let kill = OomKill {
        victims: [4711, 4712, 4713].map(victim).into(),
        trigger: Some(trigger),
        ..OomKill::default()
    };
    KillReport {
        victim_owners: owners.to_vec(),
        ..KillReport::new(owners[0].clone(), kind, limit, kill)
    }
}

/// The init was small. The text says why the kernel chose it nevertheless.
#[test]
fn an_init_beside_exiting_children() {
    let text = |exiting| {
        let sizes = Sizes { total_vm: 0, anon_rss: 60 << 10, file_rss: 0, shmem_rss: 0 };
        let report = report(Kind::Init, Limit::Container, "master", Some(sizes));
        kill(&KillReport { exiting, ..report }, &names("main"), Some(64 << 20))
    };
    let begin = "The main process master (pid 4711, 7 inside, 60 KiB of memory) of container main \
                 was killed for lack of memory; the container's limit is 64 MiB.";
    let end = " The container ends.";
    assert_eq!(text(0), format!("{begin}{end}"));
    let why = " The kernel found no other process, because a larger one of the container was still exiting.";
    assert_eq!(text(1), format!("{begin}{why}{end}"));
    let why = " The kernel found no other process, because 2 larger ones of the container were still exiting.";
    assert_eq!(text(2), format!("{begin}{why}{end}"));
}

/// The container has made cgroups of its own, and one of them was killed.
#[test]
fn a_group_inside_is_no_end_of_the_container() {
    let group = CgroupPath::parse("/pod/main/job\u{202e}".as_bytes()).ok();
    let inside = |kind| KillReport {
        ends: false,
        group: group.clone(),
        ..report(kind, Limit::Container, "worker", None)
    };
    let killed = inside(Kind::Group);
    assert_eq!(
        kill(&killed, &names("main"), None) + &left_running(Some(2)),
        "The cgroup job\\u{202e} of container main was killed as a group (2 seen), first worker \
         (pid 4711, 7 inside), for lack of memory; the container's limit was hit. 2 processes of \
         the container were left running."
    );
    let ended = KillReport { ends: true, ..killed.clone() };
    assert!(kill(&ended, &names("main"), None).starts_with("Container main was killed"));
    let reasons = [&killed, &ended].map(|it| Reason::of_kill(it).as_str());
    assert_eq!(reasons, ["SubprocessOOMKilled", "ContainerGroupOOMKilled"]);
}

#[test]
fn a_kill_is_reported_in_full() {
    let sizes = Sizes { total_vm: 1 << 40, anon_rss: 48 << 20, file_rss: 512 << 10, shmem_rss: 0 };
    let text = |kind, limit_kind, container, limit| {
        kill(&report(kind, limit_kind, "worker", Some(sizes)), &names(container), limit)
    };
    let table = [
        (
            text(Kind::Subprocess, Limit::Container, "main", Some(64 << 20)),
            "Process worker (pid 4711, 7 inside, 48.5 MiB of memory) of container main was killed \
             for lack of memory; the container's limit is 64 MiB.",
        ),
        (
            text(Kind::Init, Limit::Node, "main", Some(64 << 20)),
            "The main process worker (pid 4711, 7 inside, 48.5 MiB of memory) of container main \
             was killed for lack of memory; the node ran out of memory. The container ends.",
        ),
        (
            text(Kind::Group, Limit::Container, "main", None),
            "Container main was killed as a group (2 seen), first worker (pid 4711, 7 inside, \
             48.5 MiB of memory), for lack of memory; the container's limit was hit. The container \
             ends.",
        ),
        (
            text(Kind::Group, Limit::Pod, "side", None),
            "Container side was killed as a group (1 seen), first worker (pid 4713, 7 inside, \
             48.5 MiB of memory), for lack of memory; the pod's limit was hit. The container ends.",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(text, expected);
    }
}

/// As in a sandbox that runs all of a pod.
#[test]
fn a_kill_in_no_known_container_is_reported_of_the_pod() {
    let text = |kind| {
        let mut report = report(kind, Limit::Pod, "sentry", None);
        report.victim_owners.fill(Owner::Container(names("")));
        kill(&report, &names(""), None)
    };
    for (kind, begin) in [
        (
            Kind::Subprocess,
            "Process sentry (pid 4711, 7 inside) of the pod (container not known) was",
        ),
        (
            Kind::Init,
            "The main process sentry (pid 4711, 7 inside) of the pod (container not known) was",
        ),
        (Kind::Group, "A cgroup of the pod was killed as a group (3 seen), first sentry"),
    ] {
        let text = text(kind);
        assert!(text.starts_with(begin), "{text}");
        assert!(!text.contains("The container ends"), "{text}");
    }
}

/// What was read comes before what the spec says, which may be older.
#[test]
fn a_limit_is_reported_with_its_number() {
    let memory = Memory { limit: Some(256 << 20), ..Memory::default() };
    let slice = CgroupPath::parse(b"/kubepods.slice").ok();
    let read = |place| Limits {
        place,
        cgroup: slice.clone(),
        bytes: Some(6 << 30),
        container: Some(memory),
        ..Limits::default()
    };
    let message = |limit, limits: Limits, name: &str, spec: Option<u64>| {
        let report = KillReport { limits, ..report(Kind::Subprocess, limit, "x", None) };
        let text = kill(&report, &names(name), spec);
        text.split_once("; ").unwrap().1.to_owned()
    };
    let (container, pod) = (Limit::Container, Limit::Pod);
    let spec = Some(64 << 20);
    let table = [
        (
            message(container, read(Place::Container), "main", spec),
            "the container's limit is 256 MiB.",
        ),
        // The pod's limit, which is only a sum.
        (
            message(container, read(Place::Parent), "main", None),
            "the container's limit is 256 MiB.",
        ),
        (message(container, read(Place::Parent), "side", spec), "the container's limit is 64 MiB."),
        (message(container, read(Place::Parent), "side", None), "the container's limit was hit."),
        (
            message(container, read(Place::Inside), "main", spec),
            "the limit of 6 GiB of a cgroup inside of the container was hit.",
        ),
        (message(pod, read(Place::Parent), "main", spec), "the pod's limit of 6 GiB was hit."),
        (
            message(pod, read(Place::Above), "side", spec),
            "the limit of 6 GiB of /kubepods.slice, above the pod, was hit.",
        ),
        (
            message(pod, Limits { place: Place::Above, ..Limits::default() }, "main", None),
            "the limit of a slice, above the pod, was hit.",
        ),
        (message(Limit::Node, read(Place::Node), "main", spec), "the node ran out of memory."),
    ];
    for (text, expected) in table {
        assert_eq!(text, expected);
    }
}

#[test]
fn what_is_left_is_shown_where_it_is_known() {
    assert_eq!(left_running(Some(3)), " 3 processes of the container were left running.");
    assert_eq!(left_running(Some(1)), " 1 process of the container was left running.");
    assert_eq!(left_running(Some(0)), " No process of the container was left.");
    assert_eq!(left_running(None), "");
}

#[test]
fn the_end_of_a_container_is_reported_with_what_came_before() {
    let reporter = Reporter::default();
    reporter.kill(&report(Kind::Subprocess, Limit::Container, "wor ker", None));
    let record = &reporter.kills(1)[0];
    let message = |why| {
        ended(
            "main",
            (record.victim.comm.as_deref(), record.victim.pid),
            Duration::from_millis(340),
            why,
        )
    };
    let plain = "Container main ended 0.3 s after process wor?ker (pid 4711) of it was killed for \
                 lack of memory.";
    assert_eq!(message(None), plain);
    assert_eq!(message(Some(Obstacle::Ancestor)), plain, "which is nothing that ends it later");
    let stopped = message(Some(Obstacle::SystemdOomPolicy));
    assert!(stopped.starts_with(plain) && stopped.contains("systemd stops its scope"), "{stopped}");
}

#[test]
fn a_process_cannot_write_into_the_text() {
    let report = report(Kind::Subprocess, Limit::Unknown, "x\n\x1b[31m) of (\u{202e}", None);
    let text = kill(&report, &names("main"), None);
    assert!(text.starts_with("Process x???31m??of??? (pid"), "{text}");
}

#[test]
fn rules_are_printed_with_what_to_do() {
    assert_eq!(
        enforced("main", "jobs", false),
        "memory.oom.group of container main is now 0, as rule jobs says: an OOM kill takes one process."
    );
    assert!(enforced("main", "jobs", true).contains("all processes"));
    assert!(enforced("main", "annotation", true).contains("as the pod's annotation says"));
    assert!(reverted("main", "jobs", 5).contains("5 times against rule jobs and"));
    assert_eq!(
        not_enforceable("main", "jobs", "/a has it; clear it"),
        "The value of rule jobs is not enforceable for container main: /a has it; clear it."
    );
}

#[test]
fn an_escalation_says_why_and_what_follows() {
    let text = |escalate: &str, outcome, why| {
        escalated("main", "jobs", Escalate::parse(escalate).unwrap(), outcome, why)
    };
    assert_eq!(
        text("3/5m=restart", Outcome::Done, None),
        "3 OOM kills within 5m hit processes of container main. As rule jobs says, all of its \
         processes were killed, so that it is started anew."
    );
    assert_eq!(
        text("1/90s=group", Outcome::Done, None),
        "An OOM kill hit a process of container main. As rule jobs says, memory.oom.group is 1 until \
         there was none for 90s: the next OOM kill takes all processes of the container."
    );
    let instead = text("3/5m=restart", Outcome::GroupInstead, Some("no file"));
    assert!(instead.contains("not possible here (no file). memory.oom.group is 1"), "{instead}");
    let failed = text("3/5m=restart", Outcome::Error, Some("no right"));
    assert!(failed.ends_with("its restart was to follow, and failed (no right)."), "{failed}");
}

#[test]
fn an_annotation_is_quoted_short_and_clean() {
    let text =
        bad_annotation(&format!("x\n\"{}", "y".repeat(500)), &AnnotationError::Word("x".into()));
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

/// It is the last that is worth room.
#[test]
fn a_finding_is_emitted_if_it_fits() {
    let at = |place, text: &str| {
        let finding = Some(Finding { text: text.to_owned(), rules: vec![Rule::OneProcess] });
        let scene = Some(Arc::new(Scene { finding, ..Scene::default() }));
        let report = report(Kind::Subprocess, Limit::Container, "worker", None);
        let limits = Limits { place, ..Limits::default() };
        kill(&KillReport { scene, limits, ..report }, &names("main"), Some(64 << 20))
    };
    let with = |text: &str| at(Place::Container, text);
    let text = with("One process has most of the memory.");
    assert!(text.ends_with("limit is 64 MiB. One process has most of the memory."), "{text}");
    // It would name the pods of others.
    for place in [Place::Node, Place::Above, Place::Unknown] {
        assert!(!at(place, "Others have more.").contains("Others"));
    }
    let long = with(&"x".repeat(LONGEST - 100));
    assert!(long.ends_with("limit is 64 MiB."), "{long}");
    let most = with(&"x".repeat(700));
    assert!(most.len() + left_running(Some(usize::MAX)).len() <= LONGEST);
}
