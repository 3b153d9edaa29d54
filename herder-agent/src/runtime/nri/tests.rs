//! Does the runtime get the right answers, without delay?

mod connection;
mod contested;
pub(super) mod runtime;

use super::{
    wire::{
        Container, ContainerRequest, LinuxResources, PodSandbox, SynchronizeRequest,
        SynchronizeResponse, UpdateContainerResponse,
    },
    *,
};
use crate::report::Reporter;
use bytes::Bytes;
use herder_model::{naming::runtime::RuntimeContainer, rules::parse::Config};
use prost::Message as _;
use runtime::{Runtime, about, container, listen, pod, resources};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

const RULES: &str =
    "rules:\n- {name: r, pods: {selector: {matchLabels: {app: web}}}, oomGroup: single-process}";

const QUICK: Pace = Pace { first: Duration::from_millis(5), longest: Duration::from_millis(20) };

/// A plugin that runs, and what it needs to.
struct Scene {
    socket: PathBuf,
    reporter: Arc<Reporter>,
    policies: watch::Sender<Arc<Policy>>,
    pods: CurrentPods,
    awaited: Awaited,
    received: mpsc::Receiver<Vec<RuntimeContainer>>,
    plugin: JoinHandle<()>,
}

impl Scene {
    fn new(name: &str, dry_run: bool) -> Self {
        Self::paced(name, dry_run, QUICK)
    }

    /// The same with an API server, which has listed nothing yet.
    fn before_the_list(name: &str) -> Self {
        Self::with(name, false, QUICK, true)
    }

    fn paced(name: &str, dry_run: bool, pace: Pace) -> Self {
        Self::with(name, dry_run, pace, false)
    }

    fn with(name: &str, dry_run: bool, pace: Pace, with_api_server: bool) -> Self {
        let file = format!("herder-nri-{}-{name}", std::process::id());
        let socket = std::env::temp_dir().join(file);
        let _ = std::fs::remove_file(&socket);
        let policy = Arc::new(Policy::new(Config::parse(RULES, "test").unwrap()));
        let (policies, followed) = watch::channel(policy);
        let (learnt, received) = mpsc::channel(1);
        let reporter = Arc::new(Reporter::default());
        let (pods, awaited) = (CurrentPods::new(with_api_server), Awaited::default());
        let plugin = Plugin {
            socket: socket.clone(),
            expected: false,
            dry_run,
            policies: followed,
            pods: pods.clone(),
            awaited: awaited.clone(),
            listener: reporter.clone(),
            learnt,
        };
        let plugin = tokio::spawn(plugin.run(pace));
        Scene { socket, reporter, policies, pods, awaited, received, plugin }
    }

    fn metric(&self, series: &str) -> String {
        let text = String::from_utf8(self.reporter.metrics().exposition().0).unwrap();
        let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.unwrap_or_default().to_owned()
    }

    fn attempts(&self, result: &str) -> String {
        self.metric(&format!("herder_nri_connections_total{{result=\"{result}\"}}"))
    }

    fn answers(&self, result: &str) -> String {
        self.metric(&format!("herder_nri_adjustments_total{{result=\"{result}\"}}"))
    }

    /// What is sent to the core next.
    async fn learnt(&mut self) -> Vec<RuntimeContainer> {
        timeout(Duration::from_secs(5), self.received.recv()).await.unwrap().unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.plugin.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[tokio::test]
async fn a_container_is_adjusted_updated_and_learnt() {
    let mut scene = Scene::new("adjust", false);
    let listener = listen(&scene.socket);
    let (mut runtime, synchronized) = Runtime::meet(&listener, vec![container(1, 0)]).await;
    assert_eq!((synchronized.update.len(), synchronized.more), (0, false), "it does not run");
    assert_eq!(scene.learnt().await.len(), 1);
    assert_eq!(scene.metric("herder_nri_connected"), "1");

    assert_eq!(runtime.create(&about(pod(), container(2, 0))).await.as_deref(), Some("0"));
    let learnt = scene.learnt().await.remove(0);
    assert_eq!((learnt.init, learnt.instead_of), (None, Some(true)));
    let other = PodSandbox { labels: Default::default(), ..pod() };
    assert_eq!(runtime.create(&about(other, container(3, 0))).await, None);
    assert_eq!(scene.learnt().await[0].instead_of, None);

    let started = about(pod(), container(2, 77)).encode_to_vec();
    runtime.ask("PostStartContainer", started).await;
    assert_eq!(scene.learnt().await[0].init, Some(77));

    let update =
        ContainerRequest { resources: Some(resources("1")), ..about(pod(), container(2, 77)) };
    let answer = runtime.ask("UpdateContainer", update.encode_to_vec()).await;
    let update = UpdateContainerResponse::decode(answer).unwrap().update.remove(0);
    assert!(update.ignore_failure && update.container_id == container(2, 0).id);
    assert_eq!(update.linux.unwrap().resources.unwrap(), resources("0"));
    // A request without a value is not answered: the runtime may not send the value it will write.
    for resources in [None, Some(LinuxResources::default())] {
        let update = ContainerRequest { resources, ..about(pod(), container(2, 77)) };
        assert_eq!(runtime.ask("UpdateContainer", update.encode_to_vec()).await, Bytes::new());
    }
    assert_eq!(scene.answers("not-asked"), "2");
    let counts = ["set", "kept", "unmatched", "dry-run", "error"].map(|it| scene.answers(it));
    assert_eq!(counts, ["2", "0", "1", "0", "0"]);
    assert_eq!(scene.metric("herder_nri_answer_seconds_count"), "8");
}

#[tokio::test]
async fn the_rules_are_those_of_now() {
    let scene = Scene::new("rules", false);
    let listener = listen(&scene.socket);
    let (mut runtime, _) = Runtime::meet(&listener, Vec::new()).await;
    let policy = Config::parse(&RULES.replace("single-process", "leave"), "test").unwrap();
    scene.policies.send_replace(Arc::new(Policy::new(policy)));
    assert_eq!(runtime.create(&about(pod(), container(1, 0))).await, None);
}

/// The core decides by the current labels, and so does the plugin. Otherwise each would revert the
/// other.
#[tokio::test]
async fn the_labels_are_those_of_now() {
    let scene = Scene::new("labels", false);
    let listener = listen(&scene.socket);
    let (mut runtime, _) = Runtime::meet(&listener, Vec::new()).await;
    let labelled = |app: &str| {
        let labels = [("app".to_owned(), app.to_owned())].into();
        super::pod_from_sandbox(&PodSandbox { labels, ..pod() }).map(Box::new).unwrap()
    };
    let update =
        ContainerRequest { resources: Some(resources("1")), ..about(pod(), container(1, 77)) };
    scene.pods.apply(&herder_model::pods::Event::Applied(labelled("db")));
    assert_eq!(runtime.create(&about(pod(), container(1, 0))).await, None);
    let answer = runtime.ask("UpdateContainer", update.encode_to_vec()).await;
    assert_eq!(answer, Bytes::new(), "its label was taken away");
    let other = PodSandbox { labels: Default::default(), ..pod() };
    scene.pods.apply(&herder_model::pods::Event::Applied(labelled("web")));
    assert_eq!(runtime.create(&about(other, container(2, 0))).await.as_deref(), Some("0"));
}

/// The runtime has the labels of a pod's creation, and keeps what it is answered: an answer by old
/// labels would come back with each later update.
#[tokio::test]
async fn what_was_there_before_the_agent_waits_for_the_first_list() {
    let mut scene = Scene::before_the_list("first-list");
    let listener = listen(&scene.socket);
    let (mut runtime, synchronized) = Runtime::meet(&listener, vec![container(1, 5)]).await;
    assert_eq!(synchronized.update, []);
    let learnt = scene.learnt().await.remove(0);
    assert_eq!((&*learnt.name, &*learnt.pod.name, learnt.init), ("worker", "web-0", Some(5)));
    assert_eq!(learnt.pod.labels, None, "they may be others now");
    let update =
        ContainerRequest { resources: Some(resources("1")), ..about(pod(), container(1, 5)) };
    let update = update.encode_to_vec();
    assert_eq!(runtime.ask("UpdateContainer", update.clone()).await, Bytes::new());
    // What is made meanwhile has to be right from its first instruction. Its pod's other containers
    // have the same labels, so that these still wait.
    assert_eq!(runtime.create(&about(pod(), container(2, 0))).await.as_deref(), Some("0"));
    let learnt = scene.learnt().await.remove(0);
    assert_eq!((learnt.pod.labels.as_ref(), learnt.instead_of), (None, Some(true)));
    runtime.ask("PostStartContainer", about(pod(), container(2, 77)).encode_to_vec()).await;
    let learnt = scene.learnt().await.remove(0);
    assert_eq!((learnt.pod.labels.as_ref(), learnt.init), (None, Some(77)));

    let labelled = super::pod_from_sandbox(&pod()).map(Box::new).unwrap();
    scene.pods.apply(&herder_model::pods::Event::ListStarted);
    scene.pods.apply(&herder_model::pods::Event::Applied(labelled));
    let answer = runtime.ask("UpdateContainer", update).await;
    assert_eq!(UpdateContainerResponse::decode(answer).unwrap().update.len(), 1);
    drop(runtime);
    let (_runtime, synchronized) = Runtime::meet(&listener, vec![container(1, 5)]).await;
    assert_eq!(synchronized.update.len(), 1, "its labels are known");
}

#[tokio::test]
async fn what_has_not_started_is_updated_too() {
    let scene = Scene::new("created", false);
    let listener = listen(&scene.socket);
    let created = Container { state: 1, ..container(1, 0) };
    let (_runtime, synchronized) = Runtime::meet(&listener, vec![created]).await;
    assert_eq!(synchronized.update.len(), 1);
}

#[tokio::test]
async fn a_list_that_cannot_be_understood_is_counted_once() {
    let scene = Scene::new("odd-list", false);
    let listener = listen(&scene.socket);
    let nowhere = |number| Container { linux: None, ..container(number, 5) };
    let listed = vec![nowhere(1), nowhere(2), container(3, 5)];
    let (_runtime, synchronized) = Runtime::meet(&listener, listed).await;
    assert_eq!((synchronized.update.len(), scene.answers("error")), (1, "1".into()));
}

/// The runtime does not list what has ended, whose kill may still have to be named.
#[tokio::test]
async fn what_was_learnt_outlives_the_connection() {
    let mut scene = Scene::new("outlives", false);
    let listener = listen(&scene.socket);
    let (mut runtime, _) = Runtime::meet(&listener, vec![container(1, 5)]).await;
    // The channel has room for one.
    runtime.create(&about(pod(), container(2, 0))).await;
    runtime.create(&about(pod(), container(3, 0))).await;
    drop(runtime);
    let (_runtime, _) = Runtime::meet(&listener, Vec::new()).await;
    let mut learnt = scene.learnt().await;
    while learnt.len() < 3 {
        learnt.extend(scene.learnt().await);
    }
    assert_eq!(learnt.len(), 3);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let mut scene = Scene::new("dry", true);
    let listener = listen(&scene.socket);
    let (mut runtime, synchronized) = Runtime::meet(&listener, vec![container(1, 5)]).await;
    assert_eq!(synchronized.update, []);
    assert_eq!(runtime.create(&about(pod(), container(2, 0))).await, None);
    assert_eq!((scene.answers("dry-run"), scene.answers("set")), ("2".into(), "0".into()));
    let learnt = scene.learnt().await;
    assert!(learnt.iter().all(|learnt| learnt.instead_of.is_none()));
}

#[tokio::test]
async fn running_containers_are_updated_some_at_once() {
    let scene = Scene::new("running", false);
    let listener = listen(&scene.socket);
    let running = (1..100).map(|number| container(number, number)).collect();
    let (_runtime, synchronized) = Runtime::meet(&listener, running).await;
    assert_eq!(synchronized.update.len(), 16);
}

#[tokio::test]
async fn a_list_in_parts_is_put_together() {
    let mut scene = Scene::new("parts", false);
    let listener = listen(&scene.socket);
    let mut runtime = Runtime::accept(&listener).await;
    runtime.register(None).await;
    let parts =
        [(vec![], vec![container(1, 0)], true), (vec![pod()], vec![container(2, 0)], false)];
    for (pods, containers, more) in parts {
        let request = SynchronizeRequest { pods, containers, more };
        let answer = runtime.ask("Synchronize", request.encode_to_vec()).await;
        assert_eq!(SynchronizeResponse::decode(answer).unwrap().more, more);
    }
    assert_eq!(scene.learnt().await.len(), 2);
}

#[tokio::test]
async fn what_is_not_understood_is_answered_with_nothing_and_counted() {
    let scene = Scene::new("odd", false);
    let listener = listen(&scene.socket);
    let (mut runtime, _) = Runtime::meet(&listener, Vec::new()).await;
    let nowhere = Container { linux: None, ..container(1, 0) };
    let without_container = ContainerRequest { container: None, ..about(pod(), container(1, 0)) };
    assert_eq!(runtime.ask_bytes(vec![0xff; 9]).await, Bytes::new());
    assert_eq!(runtime.ask("CreateContainer", vec![0xff; 9]).await, Bytes::new());
    for odd in [about(pod(), nowhere), without_container] {
        assert_eq!(runtime.ask("CreateContainer", odd.encode_to_vec()).await, Bytes::new());
    }
    assert_eq!(scene.answers("error"), "4");
    assert_eq!(runtime.ask("SomethingNewer", vec![1, 2, 3]).await, Bytes::new());
    assert_eq!(scene.answers("error"), "4", "what is new is no fault");
    assert_eq!(runtime.create(&about(pod(), container(2, 0))).await.as_deref(), Some("0"));
}

/// The core takes one command at a time here, and takes none.
#[tokio::test]
async fn a_busy_core_keeps_no_container_waiting() {
    let mut scene = Scene::new("busy", false);
    let listener = listen(&scene.socket);
    let (mut runtime, _) = Runtime::meet(&listener, vec![container(1, 0)]).await;
    for number in 2..300 {
        let named = Container { name: format!("c{number}"), ..container(number, 0) };
        let value = runtime.create(&about(pod(), named)).await;
        assert_eq!(value.as_deref(), Some("0"));
    }
    let mut learnt = 0;
    while learnt < 299 {
        learnt += scene.learnt().await.len();
    }
    assert_eq!(learnt, 299, "and it learns of all in the end");
}

/// The core ends before the runtime's plugin does.
#[tokio::test]
async fn a_runtime_is_answered_although_nothing_learns_of_it_any_more() {
    let mut scene = Scene::new("end", false);
    let listener = listen(&scene.socket);
    let (mut runtime, _) = Runtime::meet(&listener, vec![container(1, 0)]).await;
    scene.learnt().await;
    scene.received.close();
    for number in 2..5 {
        let named = Container { name: format!("c{number}"), ..container(number, 0) };
        let value = runtime.create(&about(pod(), named)).await;
        assert_eq!(value.as_deref(), Some("0"), "{number}");
    }
}
