//! A runtime that is slow, goes away, comes back, or sends nothing.

use super::*;
use crate::runtime::nri::wire::Status;
use tokio::{io::AsyncWriteExt as _, time::sleep};

#[tokio::test]
async fn a_runtime_that_comes_late_goes_and_comes_again_is_met_each_time() {
    let scene = Scene::new("again", false);
    assert_eq!(scene.metric("herder_nri_connected"), "0");
    tokio::time::sleep(Duration::from_millis(30)).await;
    for _ in 0..3 {
        let listener = listen(&scene.socket);
        let (runtime, _) = Runtime::meet(&listener, Vec::new()).await;
        assert_eq!(scene.metric("herder_nri_connected"), "1");
        drop((runtime, listener));
        let gone = async {
            while scene.metric("herder_nri_connected") != "0" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(5), gone).await.unwrap();
    }
    assert!(!scene.plugin.is_finished());
}

#[tokio::test]
async fn a_runtime_that_refuses_or_talks_nonsense_is_asked_again() {
    let scene = Scene::new("refuses", false);
    let listener = listen(&scene.socket);
    let mut runtime = Runtime::accept(&listener).await;
    let status = Status { code: 3, message: "invalid plugin name".into() };
    runtime.register(Some(status)).await;
    let mut runtime = Runtime::accept(&listener).await;
    runtime.stream.write_all(&[0xff; 8]).await.unwrap();
    let _ = Runtime::meet(&listener, Vec::new()).await;
    assert_eq!(scene.metric("herder_nri_connected"), "1");
}

/// A busy node's runtime lists its containers when it comes to it.
#[tokio::test(start_paused = true)]
async fn a_runtime_that_takes_its_time_is_waited_for() {
    for seconds in [20, 110] {
        let scene = Scene::new(&format!("slow-{seconds}"), false);
        let listener = listen(&scene.socket);
        let mut runtime = Runtime::accept(&listener).await;
        runtime.register(None).await;
        sleep(Duration::from_secs(seconds / 2)).await;
        runtime.configure("containerd").await;
        sleep(Duration::from_secs(seconds / 2)).await;
        runtime.synchronize(Vec::new()).await;
        assert_eq!(runtime.create(&about(pod(), container(1, 0))).await.as_deref(), Some("0"));
        assert_eq!(scene.metric("herder_nri_connected"), "1");
        assert_eq!(
            (scene.attempts("connected"), scene.attempts("timeout")),
            ("1".into(), "0".into())
        );
    }
}

/// It is tried for ever, at least every three minutes, and as soon as it answers it is met.
#[tokio::test(start_paused = true)]
async fn a_runtime_that_never_answers_is_tried_again_and_again() {
    let scene = Scene::paced("never", false, PACE);
    let listener = listen(&scene.socket);
    for number in 1..=20 {
        let began = Instant::now();
        let accepted = timeout(Duration::from_secs(40), listener.accept()).await;
        let pause = began.elapsed();
        let longest = if number <= 4 { 4 } else { 31 };
        assert!(pause <= Duration::from_secs(longest), "the pause before try {number}: {pause:?}");
        let (mut stream, _) = accepted.unwrap().unwrap();
        let mut asked = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut asked).await.unwrap();
        assert!(began.elapsed() <= Duration::from_secs(3 * 60), "{:?}", began.elapsed());
        assert_eq!(scene.attempts("timeout"), number.to_string());
    }
    let (mut runtime, _) = Runtime::meet_within(&listener, Duration::from_secs(31)).await;
    assert_eq!(runtime.create(&about(pod(), container(1, 0))).await.as_deref(), Some("0"));
    assert_eq!(scene.attempts("connected"), "1");
}

/// It comes as late as it likes; that is looked for every few seconds.
#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_not_there_is_looked_for() {
    let scene = Scene::paced("absent", false, PACE);
    sleep(Duration::from_secs(3600)).await;
    let tries: u32 = scene.attempts("unreachable").parse().unwrap();
    assert!((300..=800).contains(&tries), "{tries}");
    let listener = listen(&scene.socket);
    let _ = Runtime::meet_within(&listener, Duration::from_secs(11)).await;
    assert_eq!(scene.metric("herder_nri_connected"), "1");
}

/// Every end before the runtime's containers are known is counted as what it was.
#[tokio::test]
async fn each_try_is_counted() {
    let scene = Scene::new("counted", false);
    let listener = listen(&scene.socket);
    drop(Runtime::accept(&listener).await);
    let mut runtime = Runtime::accept(&listener).await;
    runtime.register(Some(Status { code: 3, message: "no".into() })).await;
    let mut runtime = Runtime::accept(&listener).await;
    runtime.stream.write_all(&[0xff; 8]).await.unwrap();
    let _ = Runtime::meet(&listener, Vec::new()).await;
    let counted = ["closed", "refused", "malformed", "connected"].map(|it| scene.attempts(it));
    assert_eq!(counted, ["1", "1", "1", "1"]);
}
