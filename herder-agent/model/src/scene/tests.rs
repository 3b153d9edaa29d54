use super::*;
use serde_json::json;

fn candidate(tgid: u32, cgroup: u64) -> Candidate {
    let footprint =
        Some(Footprint { anon_rss: 30, page_tables: 4, swap: 2, ..Footprint::default() });
    let (comm, cgroup) = ("worker".to_owned(), Some(CgroupId(cgroup)));
    Candidate { tgid, comm, oom_score_adj: Some(5), cgroup, footprint }
}

fn scene(candidates: Vec<Candidate>) -> Scene {
    let mut scene = Scene::default();
    let memory = Some(Usage { usage: 90, limit: Some(100) });
    let largest = candidates;
    scene.decided(Candidates { decision: 1, memory, swap: None, seen: Some(3), largest }, &[7]);
    scene
}

#[test]
fn a_process_is_written_with_what_is_known_of_it() {
    let mut scene = scene(vec![
        candidate(7, 1),
        Candidate { footprint: None, oom_score_adj: None, cgroup: None, ..candidate(8, 1) },
    ]);
    let path = CgroupPath::parse(b"/a").unwrap();
    scene.name(|_| Some((path.clone(), "shop/web-0/worker".to_owned())));
    scene.lacks(Part::Domain, Why::Gone);
    let written = serde_json::to_value(&scene).unwrap();
    assert_eq!(written["memory"], json!({"usage": 90, "limit": 100}));
    assert_eq!(
        written["candidates"][0],
        json!({
            "pid": 7, "comm": "worker", "killed": true, "oom_score_adj": 5, "size": 36,
            "anon_rss": 30, "file_rss": 0, "shmem_rss": 0, "swap": 2, "page_tables": 4,
            "cgroup_id": 1, "cgroup": "/a", "owner": "shop/web-0/worker"
        })
    );
    let bare = json!({
        "pid": 8, "comm": "worker", "killed": false, "oom_score_adj": null, "size": null,
        "cgroup_id": null, "cgroup": null, "owner": null
    });
    assert_eq!(written["candidates"][1], bare);
    let why = "the cgroup was removed before its files were read";
    assert_eq!(written["missing"], json!([{"what": "domain", "why": why}]));
    assert_eq!([&written["finding"], &written["swap"]], [&json!(null), &json!(null)]);
}

/// A workload that may make cgroups chooses how long their paths are.
#[test]
fn names_and_paths_have_a_bound() {
    let mut scene = scene((0..16).map(|number| candidate(number, number.into())).collect());
    let path = CgroupPath::parse(format!("/{}", "a".repeat(999)).as_bytes()).unwrap();
    scene.name(|_| Some((path.clone(), "b".repeat(1000))));
    let named = scene.candidates.iter().filter(|it| it.cgroup.is_some() && it.owner.is_some());
    assert_eq!(named.count(), 4);
    assert!(scene.candidates.iter().all(|it| it.cgroup_id.is_some()));
    assert!(serde_json::to_vec(&scene).unwrap().len() < 24 * 1024);
}
