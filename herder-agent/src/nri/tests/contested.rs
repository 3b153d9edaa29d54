//! Only what another plugin wants is contested.

use super::*;
use crate::nri::wire::event::{POST_CREATE_CONTAINER, POST_START_CONTAINER, REMOVE_CONTAINER};
use tokio::{net::UnixListener, time::sleep};

async fn meet(listener: &UnixListener, name: &str) -> Runtime {
    let mut runtime = Runtime::accept(listener).await;
    runtime.register(None).await;
    runtime.configure(name).await;
    runtime.synchronize(Vec::new()).await;
    runtime
}

/// What a runtime tells of a container that was adjusted, and is then made once more.
#[tokio::test]
async fn what_fails_by_itself_is_adjusted_each_time() {
    let table: [(&str, &str, &[i32]); 6] = [
        ("containerd", "its command is not there", &[POST_CREATE_CONTAINER, REMOVE_CONTAINER]),
        ("cri-o", "its command is not there", &[REMOVE_CONTAINER]),
        ("cri-o", "it is made, and does not start", &[POST_CREATE_CONTAINER, REMOVE_CONTAINER]),
        ("cri-o", "it took too long, but it is there", &[POST_START_CONTAINER]),
        ("containerd", "it was not removed yet", &[POST_CREATE_CONTAINER]),
        ("containerd", "it ran", &[POST_CREATE_CONTAINER, POST_START_CONTAINER]),
    ];
    for (number, (name, case, events)) in table.into_iter().enumerate() {
        let scene = Scene::new(&format!("fails-{number}"), false);
        let listener = listen(&scene.socket);
        let mut runtime = meet(&listener, name).await;
        // Under another ID each time, and under the same one.
        for id in [1, 2, 3, 4, 5, 6, 7, 8, 8, 8] {
            let value = runtime.create(&about(pod(), container(id, 0))).await;
            assert_eq!(value.as_deref(), Some("0"), "{name}: {case}");
            for event in events {
                runtime.tell(*event, container(id, 0)).await;
            }
            let update = ContainerRequest {
                resources: Some(resources("1")),
                ..about(pod(), container(id, 0))
            };
            runtime.ask("UpdateContainer", update.encode_to_vec()).await;
        }
        assert_eq!(scene.answers("conflict"), "0", "{name}: {case}");
    }
}

/// Else it would never be made. containerd tells of the removal of what it did not make.
#[tokio::test(start_paused = true)]
async fn a_container_that_another_plugin_wants_otherwise_is_made_at_the_second_try() {
    for (name, refused) in [("containerd", &[REMOVE_CONTAINER][..]), ("cri-o", &[])] {
        let scene = Scene::new(&format!("contested-{name}"), false);
        let listener = listen(&scene.socket);
        let mut runtime = meet(&listener, name).await;
        assert_eq!(runtime.create(&about(pod(), container(1, 0))).await.as_deref(), Some("0"));
        for event in refused {
            runtime.tell(*event, container(1, 0)).await;
        }
        for id in [2, 3, 4] {
            assert_eq!(runtime.create(&about(pod(), container(id, 0))).await, None, "{name}");
            runtime.tell(POST_CREATE_CONTAINER, container(id, 0)).await;
            runtime.tell(POST_START_CONTAINER, container(id, 0)).await;
            runtime.tell(REMOVE_CONTAINER, container(id, 0)).await;
        }
        assert_eq!(scene.answers("conflict"), "3");
        let sidecar = Container { name: "sidecar".into(), ..container(5, 0) };
        assert_eq!(runtime.create(&about(pod(), sidecar)).await.as_deref(), Some("0"));
        sleep(Duration::from_secs(11 * 60)).await;
        assert_eq!(
            runtime.create(&about(pod(), container(6, 0))).await.as_deref(),
            Some("0"),
            "the other plugin may be gone"
        );
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
