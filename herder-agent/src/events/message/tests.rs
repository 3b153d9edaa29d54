use super::*;
use crate::{
    cgroup::{CgroupId, CgroupPath},
    events::Reason,
    oom::{Domain, NsPid, OomKill, Trigger},
};

fn names(container: &str) -> ContainerNames {
    let [namespace, pod, container] = ["shop", "cart-0", container].map(str::to_owned);
    ContainerNames { namespace, pod, container }
}

/// A kill of two processes in `main` and one in `side`.
fn report(kind: Kind, limit: Limit, comm: &str, sizes: Option<Sizes>) -> KillReport {
    let victim = |tgid| Victim {
        time: 0,
        tid: tgid,
        tgid,
        ns_pid: Some(NsPid { pid: 7, level: 1 }),
        start_boottime: 0,
        cgroup: CgroupId(1),
        parent_cgroup: None,
        comm: comm.to_owned(),
        uid: 0,
        oom_score_adj: None,
        sizes,
    };
    let trigger = Trigger { tid: 1, tgid: 1, cgroup: CgroupId(1), comm: "other".to_owned() };
    let owners = ["main", "main", "side"].map(|name| Owner::Container(names(name)));
    KillReport {
        kill: OomKill {
            trigger: Some(trigger),
            ended: None,
            domain: Domain::Unknown,
            group: None,
            group_cgroup: None,
            victims: [4711, 4712, 4713].map(victim).into(),
        },
        kind,
        ends: kind != Kind::Subprocess,
        group: None,
        limit,
        owner: owners[0].clone(),
        cgroup: None,
        victim_owners: owners.into(),
        rule: None,
    }
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
        kill(&killed, &names("main"), None) + &goes_on(Some(2)),
        "The cgroup job\\u{202e} of container main was killed as a group (2 seen), first worker \
         (pid 4711, 7 inside), for lack of memory; the container's limit was hit. The container \
         goes on with 2 processes."
    );
    let ended = KillReport { ends: true, ..killed.clone() };
    assert!(kill(&ended, &names("main"), None).starts_with("Container main was killed"));
    let reasons = [&killed, &ended].map(|it| Reason::of_kill(it).as_str());
    assert_eq!(reasons, ["SubprocessOOMKilled", "ContainerGroupOOMKilled"]);
}

#[test]
fn a_kill_is_told_in_full() {
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
             48.5 MiB of memory), for lack of memory; a limit above the container was hit: that of \
             its pod or node slice. The container ends.",
        ),
    ];
    for (told, expected) in table {
        assert_eq!(told, expected);
    }
}

#[test]
fn what_is_left_is_told_where_it_is_known() {
    assert_eq!(goes_on(Some(3)), " The container goes on with 3 processes.");
    assert_eq!(goes_on(Some(1)), " The container goes on with 1 process.");
    assert_eq!(goes_on(Some(0)), " No process of the container was left.");
    assert_eq!(goes_on(None), " The container goes on.");
}

#[test]
fn a_process_cannot_write_into_the_text() {
    let report = report(Kind::Subprocess, Limit::Unknown, "x\n\x1b[31m) of (\u{202e}", None);
    let text = kill(&report, &names("main"), None);
    assert!(text.starts_with("Process x???31m??of??? (pid"), "{text}");
}

#[test]
fn rules_are_told_with_what_to_do() {
    assert_eq!(
        enforced("main", "jobs", false),
        "Container main gets what rule jobs wants: when memory runs out, the kernel now kills one \
         process at a time (memory.oom.group=0)."
    );
    assert!(enforced("main", "jobs", true).contains("all processes"));
    assert!(enforced("main", "annotation", true).contains("what the pod's annotation wants"));
    assert!(reverted("main", "jobs", 5).contains("5 times against rule jobs and"));
    assert_eq!(
        not_enforceable("main", "jobs", "/a has it; clear it"),
        "What rule jobs wants cannot be made to hold for container main: /a has it; clear it."
    );
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
