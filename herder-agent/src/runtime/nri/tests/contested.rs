//! Only what another plugin wants is contested.

use super::*;
use crate::runtime::nri::wire::event::{POST_CREATE_CONTAINER, POST_START_CONTAINER};
use herder_model::cgroup::CgroupPath;
use tokio::{net::UnixListener, time::sleep};

impl Scene {
    /// The core sees a new cgroup.
    fn cgroup_made(&self, prefix: &str, number: u32) {
        let path = format!("/kubepods.slice/{prefix}-{}.scope", container(number, 0).id);
        self.awaited.cgroup_made(&CgroupPath::parse(path.as_bytes()).unwrap());
    }
}

async fn meet(listener: &UnixListener, name: &str) -> Runtime {
    let mut runtime = Runtime::accept(listener).await;
    runtime.register(None).await;
    runtime.configure(name).await;
    runtime.synchronize(Vec::new()).await;
    runtime
}

/// What is seen of a container that was adjusted, before it is made once more.
enum Seen {
    Event(i32),
    /// The core sees a cgroup of this prefix.
    Cgroup(&'static str),
}

#[tokio::test]
async fn what_fails_by_itself_is_adjusted_each_time() {
    let (made, started) = (Seen::Event(POST_CREATE_CONTAINER), Seen::Event(POST_START_CONTAINER));
    let table: [(&str, &str, &[Seen]); 6] = [
        ("containerd", "its command is not there, which its start finds out", &[made]),
        ("cri-o", "its command is not there, which runc create finds out", &[Seen::Cgroup("crio")]),
        ("cri-o", "its monitor ends", &[Seen::Cgroup("crio-conmon")]),
        ("cri-o", "it took too long, but it is there", &[started]),
        (
            "containerd",
            "it ran",
            &[
                Seen::Event(POST_CREATE_CONTAINER),
                Seen::Cgroup("cri-containerd"),
                Seen::Event(POST_START_CONTAINER),
            ],
        ),
        ("a new one", "no event is about it", &[Seen::Cgroup("new")]),
    ];
    for (number, (name, case, seen)) in table.into_iter().enumerate() {
        let scene = Scene::new(&format!("fails-{number}"), false);
        let listener = listen(&scene.socket);
        let mut runtime = meet(&listener, name).await;
        // Under another ID each time, and under the same one.
        for id in [1, 2, 3, 4, 5, 6, 7, 8, 8, 8] {
            let value = runtime.create(&about(pod(), container(id, 0))).await;
            assert_eq!(value.as_deref(), Some("0"), "{name}: {case}");
            for seen in seen {
                match seen {
                    Seen::Event(event) => runtime.announce(*event, container(id, 0)).await,
                    Seen::Cgroup(prefix) => scene.cgroup_made(prefix, id),
                }
            }
            let resources = Some(resources("1"));
            let update = ContainerRequest { resources, ..about(pod(), container(id, 0)) };
            runtime.ask("UpdateContainer", update.encode_to_vec()).await;
        }
        assert_eq!(scene.answers("conflict"), "0", "{name}: {case}");
    }
}

/// Else it would never be made.
#[tokio::test(start_paused = true)]
async fn a_container_that_another_plugin_wants_otherwise_is_made_at_the_second_try() {
    let scene = Scene::new("contested", false);
    let listener = listen(&scene.socket);
    let mut runtime = meet(&listener, "cri-o").await;
    assert_eq!(runtime.create(&about(pod(), container(1, 0))).await.as_deref(), Some("0"));
    for id in [2, 3, 4] {
        assert_eq!(runtime.create(&about(pod(), container(id, 0))).await, None);
        scene.cgroup_made("crio", id);
        runtime.announce(POST_CREATE_CONTAINER, container(id, 0)).await;
        runtime.announce(POST_START_CONTAINER, container(id, 0)).await;
    }
    assert_eq!(scene.answers("conflict"), "3");
    let sidecar = Container { name: "sidecar".into(), ..container(5, 0) };
    assert_eq!(runtime.create(&about(pod(), sidecar)).await.as_deref(), Some("0"));
    sleep(Duration::from_secs(11 * 60)).await;
    let value = runtime.create(&about(pod(), container(6, 0))).await;
    assert_eq!(value.as_deref(), Some("0"), "the other plugin may be gone");
}

/// What fails before it gets a cgroup looks like a contested one, once, and no longer.
#[tokio::test]
async fn what_fails_without_a_value_too_is_not_contested() {
    let scene = Scene::new("early", false);
    let listener = listen(&scene.socket);
    let mut runtime = meet(&listener, "cri-o").await;
    for id in [1, 3, 5] {
        assert_eq!(runtime.create(&about(pod(), container(id, 0))).await.as_deref(), Some("0"));
        assert_eq!(runtime.create(&about(pod(), container(id + 1, 0))).await, None);
    }
}

/// It knows nothing of what an earlier one was asked.
#[tokio::test]
async fn a_runtime_that_starts_again_is_no_other_plugin() {
    let scene = Scene::new("restarted", false);
    for id in 1..5 {
        let listener = listen(&scene.socket);
        let mut runtime = meet(&listener, "cri-o").await;
        assert_eq!(runtime.create(&about(pod(), container(id, 0))).await.as_deref(), Some("0"));
    }
    assert_eq!(scene.answers("conflict"), "0");
}
