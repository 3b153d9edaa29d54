//! What becomes of a decision's candidates, and of what the files say.

use super::{
    node::{GROUP, Node, container},
    records,
};
use herder_model::scene::{KEPT, Scene, Why, finding::Rule};
use std::{sync::Arc, time::Duration};

fn node(name: &str) -> Node {
    let mut node = Node::new(name, GROUP);
    node.pods_are('a');
    node.write("memory.stat", "anon 900000\nfile 4096\nshmem 0\nkernel 8192\n");
    node.write("pids.current", "7\n");
    node
}

fn scene(node: &Node, id: u64) -> Arc<Scene> {
    node.reporter.kill_with_scene(id).unwrap().1.unwrap()
}

fn why(scene: &Scene) -> Vec<Why> {
    scene.missing.iter().map(|missing| missing.why).collect()
}

#[test]
fn a_kill_has_what_the_kernel_chose_between_and_what_files_say() {
    let mut node = node("scene");
    let worker = node.worker;
    node.victim(5, 100, 17, worker);
    node.kernel.kill(&records::candidates(5, worker, &[(99, 20), (100, 200)]));
    node.decision(5, worker, 0, (1, 1));
    node.pass(Duration::from_millis(4));
    let scene = scene(&node, 1);
    let memory = scene.memory.unwrap();
    assert_eq!((memory.usage, memory.limit), (250 * records::PAGE, Some(256 * records::PAGE)));
    assert_eq!((scene.looked_at, scene.candidates.len()), (Some(2), 2));
    let largest = &scene.candidates[0];
    assert_eq!((largest.pid, largest.killed, scene.candidates[1].killed), (100, true, false));
    assert_eq!(largest.owner.as_deref(), Some("shop/web-0/worker"));
    assert_eq!(largest.cgroup.as_ref().unwrap().as_str(), container('a'));
    let files = scene.container.as_ref().unwrap();
    assert_eq!((files.stat.anon, files.pids, files.peak), (Some(900_000), Some(7), None));
    assert_eq!((scene.read_seconds, scene.domain.is_none()), (Some(0.004), true));
    assert_eq!(why(&scene), []);
    assert_eq!(scene.finding.as_ref().unwrap().rules, [Rule::OneProcess]);
}

/// Whose its processes are is known later than that it happened; what was read, was read then.
#[test]
fn a_kill_that_waits_for_its_name_has_the_scene_of_its_time() {
    let mut node = Node::new("scene-waits", GROUP);
    node.write("memory.stat", "anon 900000\n");
    let worker = node.worker;
    node.victim(5, 100, 17, worker);
    node.kernel.kill(&records::candidates(5, worker, &[(100, 200)]));
    node.decision(5, worker, 0, (1, 1));
    node.turn();
    node.write("memory.stat", "anon 1\n");
    node.pass(Duration::from_secs(2));
    assert!(node.kills().is_empty());
    node.pods_are('a');
    let scene = scene(&node, 1);
    assert_eq!(scene.candidates[0].owner.as_deref(), Some("shop/web-0/worker"));
    assert_eq!(scene.container.as_ref().unwrap().stat.anon, Some(900_000));
}

#[test]
fn what_is_missing_is_said() {
    let mut node = node("scene-missing");
    let worker = node.worker;
    // The record was lost.
    node.subprocess_dies(5);
    node.turn();
    assert_eq!(why(&scene(&node, 1)), [Why::Lost, Why::Lost], "candidates and usage");
    // The kernel is set to kill the process that asks.
    node.victim(6, 101, 18, worker);
    node.kernel.kill(&records::candidates(6, worker, &[]));
    node.decision(6, worker, 0, (1, 1));
    node.turn();
    assert_eq!(why(&scene(&node, 2)), [Why::NotLookedAt]);
    // The container is gone.
    node.victim(7, 102, 19, worker);
    node.decision(7, worker, 0, (1, 1));
    node.remove(&container('a'), worker);
    node.turn();
    assert_eq!(why(&scene(&node, 3)), [Why::Lost, Why::Lost, Why::Gone]);
}

#[test]
fn a_storm_is_not_read_for_and_the_last_scenes_are_kept() {
    let mut node = node("scene-storm");
    let worker = node.worker;
    let kills = u32::try_from(KEPT).unwrap() + 20;
    for kill in 1..=kills {
        node.victim(kill.into(), 1000 + kill, 17, worker);
        node.decision(kill.into(), worker, 0, (1, 1));
    }
    node.turn();
    let kept = |id: u32| node.reporter.kill_with_scene(id.into()).unwrap().1;
    assert!(kept(20).is_none() && kept(21).is_some() && kept(kills).is_some());
    assert!(kept(kills).unwrap().missing.iter().any(|missing| missing.why == Why::TooFast));
    assert!(node.reporter.kill_with_scene(u64::from(kills) + 1).is_none());
}
