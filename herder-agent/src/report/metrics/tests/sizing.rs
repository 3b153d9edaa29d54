//! What a container used at its last kill, for an operator who sizes it.

use super::*;
use herder_model::{
    oom::{
        candidates::Usage,
        limit::{Memory, Place},
    },
    scene::Scene,
};
use std::sync::Arc;

/// A kill in a container at its own limit.
pub(super) fn at_its_limit(name: &str, bytes: u64) -> KillReport {
    let limits = Limits { place: Place::Container, bytes: Some(bytes), ..Limits::default() };
    KillReport { limits, ..report(&[pod(name)], Kind::Subprocess, None) }
}

const FAMILY: &str = "herder_container_oom_memory_bytes{";

fn shown(metrics: &Metrics) -> Vec<String> {
    let lines = lines(metrics, FAMILY).into_iter();
    lines.map(|line| line.split("pod=").nth(1).unwrap().to_owned()).collect()
}

#[test]
fn the_last_kill_of_which_something_is_known_counts() {
    let metrics = Metrics::new(RETENTION);
    assert_eq!(lines(&metrics, FAMILY), [""; 0], "0 bytes would be untrue");
    metrics.kill(&at_its_limit("a", 64 << 20), Duration::ZERO, NOW);
    metrics.kill(&at_its_limit("a", 96 << 20), Duration::ZERO, NOW);
    assert_eq!(shown(&metrics), ["\"a\"} 100663296"]);
    // The pod's limit was hit; the container had less.
    let memory = Memory { limit: Some(64 << 20), current: Some(8 << 20), peak: Some(40 << 20) };
    let limits = Limits {
        place: Place::Parent,
        container: Some(memory),
        killed: Some(16 << 20),
        ..Limits::default()
    };
    metrics.kill(&KillReport { limits, ..at_its_limit("a", 0) }, Duration::ZERO, NOW);
    assert_eq!(shown(&metrics), ["\"a\"} 25165824"]);
    let gone = Limits::default();
    metrics.kill(&KillReport { limits: gone, ..at_its_limit("a", 0) }, Duration::ZERO, NOW);
    assert_eq!(shown(&metrics), ["\"a\"} 25165824"], "it stays");
}

/// A limit that was lowered is less than what was in use.
#[test]
fn the_kernels_own_figure_comes_before_the_limit() {
    let usage = Usage { usage: 70 << 20, limit: Some(64 << 20) };
    let scene = Some(Arc::new(Scene { memory: Some(usage), ..Scene::default() }));
    let metrics = Metrics::new(RETENTION);
    let kill = KillReport { scene: scene.clone(), ..at_its_limit("a", 64 << 20) };
    metrics.kill(&kill, Duration::ZERO, NOW);
    assert_eq!(shown(&metrics), ["\"a\"} 73400320"]);
    // That of the pod is not the container's.
    let memory = Memory { limit: Some(64 << 20), current: Some(8 << 20), peak: None };
    let (place, killed) = (Place::Parent, Some(16 << 20));
    let limits = Limits { place, container: Some(memory), killed, ..Limits::default() };
    metrics.kill(&KillReport { limits, ..kill }, Duration::ZERO, NOW);
    assert_eq!(shown(&metrics), ["\"a\"} 25165824"]);
}

#[test]
fn only_containers_have_it() {
    let metrics = Metrics::new(RETENTION);
    let of = |owner: Owner| KillReport { owner, ..at_its_limit("a", 1) };
    metrics.kill(&of(host("/x")), Duration::ZERO, NOW);
    let Owner::Container(mut names) = pod("a") else { unreachable!() };
    names.container.clear();
    metrics.kill(&of(Owner::Container(names)), Duration::ZERO, NOW);
    assert_eq!(shown(&metrics), [""; 0], "neither the host's cgroups nor the pod as a whole");
}

#[test]
fn it_goes_with_the_other_series_of_the_container() {
    let retention = Duration::from_secs(60);
    let metrics = Metrics::new(retention);
    let begin = NOW;
    metrics.kill(&at_its_limit("a", 1), Duration::ZERO, NOW);
    metrics.kill(&at_its_limit("b", 1), Duration::ZERO, NOW);
    metrics.left(&pod("a"), begin);
    metrics.expire(begin + retention / 2, |_| false);
    assert_eq!(shown(&metrics).len(), 2, "it is scraped once more");
    metrics.expire(begin + retention, |_| false);
    assert_eq!(shown(&metrics), ["\"b\"} 1"]);
}
