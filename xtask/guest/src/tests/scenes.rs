//! Does a kill's scene show who used how much, and what follows from it?

use crate::harness::{
    agent::{Agent, MATCHED},
    container::{Cgroup, Container, run_in},
    say::say,
    test::{Test, tests},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{fs, process::Command, thread::sleep, time::Duration};

pub const TESTS: &[Test] = tests![
    scene_of_one_process,
    scene_of_ten_workers,
    scene_of_shared_memory,
    scene_of_a_limit_above,
    scene_of_a_spared_process,
    scene_of_many_processes,
    scene_of_a_full_node,
    scene_without_the_kernels_help
];

/// What the agent says of a kill, with its scene.
fn explained(agent: &Agent, id: &Value) -> Value {
    let text = agent.get(&format!("/api/v1/kills/{id}"));
    let kill: Value = serde_json::from_str(&text).unwrap();
    say(&format!("{:#}", kill["scene"]));
    kill
}

fn first_scene(agent: &Agent) -> Value {
    eventually("a kill", || !agent.kills().is_empty());
    explained(agent, &agent.kills()[0]["id"])["scene"].clone()
}

fn current(cgroup: &Cgroup) -> u64 {
    fs::read_to_string(cgroup.file("memory.current")).unwrap().trim().parse().unwrap()
}

fn mebibytes(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}")) >> 20
}

/// Anonymous memory.
fn anon(cgroup: &Cgroup) -> u64 {
    let text = fs::read_to_string(cgroup.file("memory.stat")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("anon ")).unwrap().parse().unwrap()
}

/// Waits until its processes have taken so much, MiB, and no more: each has some beside that.
fn grows(cgroup: &Cgroup, mebibytes: u64) {
    eventually("it has grown", || anon(cgroup) >= mebibytes << 20);
    eventually("it has all", || {
        let before = current(cgroup);
        sleep(Duration::from_secs(1));
        current(cgroup) == before
    });
}

/// What the children of a container have taken is too much from now on: some 2 MiB less are
/// allowed than are in use.
fn squeeze(cgroup: &Cgroup) {
    cgroup.set("memory.max", &(current(cgroup) - (2 << 20)).to_string());
}

fn assert_rules(scene: &Value, rules: &[&str]) {
    assert_eq!(scene["finding"]["rules"], json!(rules), "{scene:#}");
}

/// Usage and limit as they were at the decision, all candidates, and what the files say.
fn scene_of_one_process() {
    let agent = Agent::start(MATCHED);
    let container = Container::start("/matched/c1", 100, &["idle", "idle", "hog:200"]);
    let kill = agent.wait_for_kills(1).remove(0);
    assert!(kill.get("scene").is_none(), "the list stays small");
    let whole = explained(&agent, &kill["id"]);
    let scene = &whole["scene"];
    assert_eq!([&whole["id"], &whole["victim"]["pid"]], [&kill["id"], &kill["victim"]["pid"]]);
    assert_eq!(scene["memory"]["limit"], 100 << 20);
    assert!((98..=100).contains(&mebibytes(&scene["memory"]["usage"])), "{scene:#}");
    // Where the kernel has no swap, it counts none.
    assert_eq!(scene["swap"]["usage"].as_u64().unwrap_or(0), 0);
    assert_eq!(scene["looked_at"], 4, "the init and its children");
    let candidates = scene["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 4);
    let largest = &candidates[0];
    assert_eq!(largest["pid"], kill["victim"]["pid"], "{scene:#}");
    assert_eq!([&largest["killed"], &candidates[1]["killed"]], [true, false]);
    assert_eq!([&largest["oom_score_adj"], &largest["swap"]], [0, 0]);
    assert_eq!([&largest["cgroup"], &largest["owner"]], ["/matched/c1", "/matched/c1"]);
    assert_eq!(largest["cgroup_id"], container.cgroup.id());
    assert!((50..=100).contains(&mebibytes(&largest["anon_rss"])), "{scene:#}");
    let sizes: Vec<_> = candidates.iter().map(|it| it["size"].as_u64().unwrap()).collect();
    assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
    let parts = ["anon_rss", "file_rss", "shmem_rss", "swap", "page_tables"];
    let parts = parts.iter().map(|part| largest[*part].as_u64().unwrap());
    assert_eq!(parts.sum::<u64>(), sizes[0]);
    assert!(largest["page_tables"].as_u64().unwrap() > 100 << 10, "of 100 MiB: {scene:#}");
    let files = &scene["container"];
    assert_eq!(files["cgroup"], "/matched/c1");
    // So little may be 0 in memory.stat, which the kernel brings up to date in batches.
    assert!(files["current"].as_u64().unwrap() > 0 && files["kernel"].is_u64(), "{scene:#}");
    assert_eq!(scene["domain"], Value::Null, "it is the container");
    assert_eq!(scene["missing"], json!([]));
    assert_rules(scene, &["one-process"]);
    let text = scene["finding"]["text"].as_str().unwrap();
    let begin = format!("One process has most of the memory: init (pid {})", kill["victim"]["pid"]);
    assert!(text.starts_with(&begin) && text.ends_with(" MiB."), "{text}");
    let printed = Command::new("/bin/herder-agent").arg("explain").output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    say(&printed);
    assert!(printed.contains(text) && printed.contains(", killed\n"), "{printed}");
    let (status, _) = agent.try_get("/api/v1/kills/77").unwrap();
    assert_eq!(status, 404);
    agent.assert_nothing_lost();
}

/// Ten like processes, none of which has much.
fn scene_of_ten_workers() {
    let agent = Agent::start(MATCHED);
    let container = Container::start("/matched/c1", 200, &["hog:9"; 10]);
    grows(&container.cgroup, 90);
    squeeze(&container.cgroup);
    let scene = first_scene(&agent);
    assert_eq!(scene["looked_at"], 11);
    assert_rules(&scene, &["like-processes"]);
    let text = scene["finding"]["text"].as_str().unwrap();
    assert!(text.starts_with("10 processes named init have about 9"), "{text}");
    agent.assert_nothing_lost();
}

/// Memory that is no process's own: a file in a tmpfs.
fn scene_of_shared_memory() {
    let agent = Agent::start(MATCHED);
    fs::create_dir_all("/tmp/shm").unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", "/tmp/shm", "tmpfs", flags, c"size=128m").unwrap();
    let container = Container::start("/matched/c1", 120, &["writes:70", "later:100"]);
    let scene = first_scene(&agent);
    // Some of the 70 may not be in memory.stat yet, see above.
    assert!(mebibytes(&scene["container"]["shmem"]) >= 69, "{scene:#}");
    assert_rules(&scene, &["shared-memory"]);
    let text = scene["finding"]["text"].as_str().unwrap();
    assert!(text.starts_with("Shared memory or tmpfs"), "{text}");
    drop(container);
    rustix::mount::unmount("/tmp/shm", rustix::mount::UnmountFlags::DETACH).unwrap();
    agent.assert_nothing_lost();
}

/// The limit of the cgroup above, which the other container has used up.
fn scene_of_a_limit_above() {
    let agent =
        Agent::start("rules:\n- {name: m, cgroups: ['/pod/*'], oomGroup: single-process}\n");
    let pod = Cgroup::make("/pod");
    pod.limit(120);
    let most = Container::start("/pod/c2", 1000, &["hog:30", "hog:30", "hog:25"]);
    grows(&most.cgroup, 85);
    let _other = Container::start("/pod/c1", 1000, &["hog:60"]);
    let scene = first_scene(&agent);
    assert_eq!(scene["memory"]["limit"], 120 << 20);
    assert_eq!([&scene["domain"]["cgroup"], &scene["looked_at"]], [&json!("/pod"), &json!(6)]);
    assert_eq!(scene["finding"]["rules"][0], "pod-limit");
    let text = scene["finding"]["text"].as_str().unwrap();
    assert!(
        text.starts_with("The limit of /pod of 120 MiB was hit, not the container's; "),
        "{text}"
    );
    assert!(text.contains("the processes of /pod/c2 use the most, 8"), "{text}");
    agent.assert_nothing_lost();
}

/// The largest process is not the victim, for its `oom_score_adj`.
fn scene_of_a_spared_process() {
    let agent = Agent::start(MATCHED);
    let container = Container::start("/matched/c1", 200, &["hog:40"]);
    grows(&container.cgroup, 40);
    let spared = container.cgroup.processes().into_iter().find(|pid| *pid != container.init());
    let spared = spared.unwrap();
    fs::write(format!("/proc/{spared}/oom_score_adj"), "-900").unwrap();
    let mut victim = run_in(&container.cgroup, &["hog", "30"]);
    grows(&container.cgroup, 70);
    squeeze(&container.cgroup);
    let scene = first_scene(&agent);
    assert_eq!(
        [&scene["candidates"][0]["pid"], &scene["candidates"][1]["pid"]],
        [spared, victim.id()]
    );
    assert_eq!(scene["candidates"][0]["oom_score_adj"], -900);
    assert_rules(&scene, &["one-process", "score-adj"]);
    victim.wait().unwrap();
    agent.assert_nothing_lost();
}

/// More than are listed: the largest are, and all are counted.
fn scene_of_many_processes() {
    let agent = Agent::start(MATCHED);
    let children: Vec<String> = (0..24).map(|number| format!("hog:{}", number / 4 + 1)).collect();
    let children: Vec<&str> = children.iter().map(String::as_str).collect();
    let container = Container::start("/matched/c1", 400, &children);
    grows(&container.cgroup, 84);
    squeeze(&container.cgroup);
    let scene = first_scene(&agent);
    assert_eq!(scene["looked_at"], 25);
    let candidates = scene["candidates"].as_array().unwrap();
    let anon: Vec<_> = candidates.iter().map(|it| it["anon_rss"].as_u64().unwrap()).collect();
    assert_eq!(anon.len(), 16);
    // Four each of 6, 5, 4 and 3 MiB, less what Linux 6.2 and later may not have counted yet.
    let mut taken = [6, 5, 4, 3].iter().flat_map(|size| [size << 20; 4]);
    assert!(anon.iter().all(|anon| anon + (1 << 19) >= taken.next().unwrap()), "{anon:?}");
    agent.assert_nothing_lost();
}

/// The kernel looks at all processes of the node, and the agent at its containers.
fn scene_of_a_full_node() {
    let agent = Agent::start(MATCHED);
    let cgroup = Cgroup::make("/matched/c1");
    run_in(&cgroup, &["grower", "32"]).wait().unwrap();
    let scene = first_scene(&agent);
    assert_eq!(scene["memory"], Value::Null);
    assert!(scene["looked_at"].as_u64().unwrap() >= 2, "the agent is one: {scene:#}");
    assert_eq!(scene["candidates"][0]["killed"], true);
    assert_eq!(scene["containers"][0]["owner"], "/matched/c1");
    assert_rules(&scene, &["node-full", "one-process"]);
    agent.assert_nothing_lost();
}

/// What cannot be had is said.
fn scene_without_the_kernels_help() {
    for (flags, candidates) in [
        (&["--no-btf"][..], "this kernel's OOM killer cannot be traced"),
        (&["--source", "memory-events"], "kills are counted by memory.events, without eBPF"),
    ] {
        let agent = Agent::start_with(MATCHED, flags);
        let container = Container::start("/matched/c1", 60, &["idle", "hog:100"]);
        let scene = first_scene(&agent);
        let missing = scene["missing"].as_array().unwrap();
        let of = |what: &str| missing.iter().find(|it| it["what"] == what).map(|it| &it["why"]);
        assert_eq!(of("candidates"), Some(&json!(candidates)), "{scene:#}");
        assert_eq!(
            [&scene["looked_at"], &scene["memory"], &scene["candidates"]],
            [&Value::Null, &Value::Null, &json!([])]
        );
        assert_eq!(scene["container"]["cgroup"], "/matched/c1");
        assert_eq!(scene["finding"], Value::Null, "nothing is made up");
        drop((agent, container));
        Cgroup::made("/matched/c1").remove();
    }
}
