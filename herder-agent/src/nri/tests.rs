//! A runtime of the tests, which speaks NRI as containerd does.

use super::{
    mux::{Connection, Demultiplexer, Kind, Message},
    wire::{
        Container, ContainerRequest, CreateContainerResponse, LinuxContainer, LinuxResources,
        PLUGIN_SERVICE, PodSandbox, RegisterPluginRequest, Request, Response, Status,
        SynchronizeRequest, SynchronizeResponse, UpdateContainerResponse,
    },
    *,
};
use crate::config::Config;
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use std::path::Path;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

const RULES: &str =
    "rules:\n- {name: r, pods: {selector: {matchLabels: {app: web}}}, oomGroup: single-process}";

const QUICK: Pace = Pace { first: Duration::from_millis(5), longest: Duration::from_millis(20) };

/// A plugin that runs, and what it needs to.
struct Scene {
    socket: PathBuf,
    reporter: Arc<Reporter>,
    policies: watch::Sender<Arc<Policy>>,
    pods: CurrentPods,
    commands: Option<mpsc::Sender<Command>>,
    received: mpsc::Receiver<Command>,
    plugin: JoinHandle<()>,
}

impl Scene {
    fn new(name: &str, dry_run: bool) -> Self {
        let file = format!("herder-nri-{}-{name}", std::process::id());
        let socket = std::env::temp_dir().join(file);
        let _ = std::fs::remove_file(&socket);
        let policy = Arc::new(Policy::new(Config::parse(RULES, "test").unwrap()));
        let (policies, followed) = watch::channel(policy);
        let (commands, received) = mpsc::channel(1);
        let reporter = Arc::new(Reporter::default());
        let pods = CurrentPods::default();
        let plugin = Plugin {
            socket: socket.clone(),
            expected: false,
            dry_run,
            policies: followed,
            pods: pods.clone(),
            reporter: reporter.clone(),
            core: commands.downgrade(),
        };
        let plugin = tokio::spawn(plugin.run(QUICK));
        Scene { socket, reporter, policies, pods, commands: Some(commands), received, plugin }
    }

    fn metric(&self, series: &str) -> String {
        let text = String::from_utf8(self.reporter.metrics().exposition().0).unwrap();
        let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.unwrap_or_default().to_owned()
    }

    fn answers(&self, result: &str) -> String {
        self.metric(&format!("herder_nri_adjustments_total{{result=\"{result}\"}}"))
    }

    /// What the core is told next.
    async fn learnt(&mut self) -> Vec<Learnt> {
        match timeout(Duration::from_secs(5), self.received.recv()).await.unwrap().unwrap() {
            Command::Learnt(learnt) => learnt,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.plugin.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// The runtime's end of one connection.
struct Runtime {
    stream: UnixStream,
    demultiplexer: Demultiplexer,
    buffer: BytesMut,
    stream_id: u32,
}

impl Runtime {
    async fn accept(listener: &UnixListener) -> Self {
        let accepted = timeout(Duration::from_secs(5), listener.accept()).await.unwrap();
        Runtime {
            stream: accepted.unwrap().0,
            demultiplexer: Demultiplexer::default(),
            buffer: BytesMut::new(),
            stream_id: 1,
        }
    }

    /// Takes the registration, and asks what comes after it.
    async fn meet(listener: &UnixListener, running: Vec<Container>) -> (Self, SynchronizeResponse) {
        let mut runtime = Self::accept(listener).await;
        runtime.register(None).await;
        let answer = runtime.ask("Configure", Bytes::new()).await;
        assert_eq!(answer, [0x10, 0xc8, 1][..], "the events 4, 7 and 8");
        let request = SynchronizeRequest { pods: vec![pod()], containers: running, more: false };
        let answer = runtime.ask("Synchronize", request.encode_to_vec()).await;
        (runtime, SynchronizeResponse::decode(answer).unwrap())
    }

    async fn register(&mut self, status: Option<Status>) {
        let asked = self.read().await;
        assert_eq!((asked.connection, asked.kind), (Connection::Runtime, Kind::Request));
        let request = Request::decode(asked.body.clone()).unwrap();
        assert_eq!(request.method, "RegisterPlugin");
        let register = RegisterPluginRequest::decode(request.payload).unwrap();
        assert_eq!((&*register.plugin_name, &*register.plugin_idx), ("herder", "99"));
        let body = Response { status, payload: Bytes::new() }.encode_to_vec().into();
        self.write(&Message { kind: Kind::Response, body, ..asked }).await;
    }

    async fn ask(&mut self, method: &str, payload: impl Into<Bytes>) -> Bytes {
        let request = Request {
            service: PLUGIN_SERVICE.into(),
            method: method.into(),
            payload: payload.into(),
            timeout: 2_000_000_000,
        };
        self.ask_bytes(request.encode_to_vec()).await
    }

    async fn ask_bytes(&mut self, body: Vec<u8>) -> Bytes {
        self.stream_id += 2;
        let stream = self.stream_id;
        let (connection, kind, body) = (Connection::Plugin, Kind::Request, body.into());
        self.write(&Message { connection, stream, kind, body }).await;
        let answer = self.read().await;
        assert_eq!(
            (answer.connection, answer.kind, answer.stream),
            (Connection::Plugin, Kind::Response, stream)
        );
        let response = Response::decode(answer.body).unwrap();
        assert_eq!(response.status, None, "the runtime would refuse the container");
        response.payload
    }

    async fn write(&mut self, message: &Message) {
        self.stream.write_all(&message.frames().unwrap()).await.unwrap();
    }

    async fn read(&mut self) -> Message {
        loop {
            if let Some(message) = self.demultiplexer.next(&mut self.buffer).unwrap() {
                return message;
            }
            let read = timeout(Duration::from_secs(5), self.stream.read_buf(&mut self.buffer));
            assert_ne!(read.await.unwrap().unwrap(), 0, "the plugin has hung up");
        }
    }

    /// The value that a new container's spec gets.
    async fn create(&mut self, request: &ContainerRequest) -> Option<String> {
        let answer = self.ask("CreateContainer", request.encode_to_vec()).await;
        let adjust = CreateContainerResponse::decode(answer).unwrap().adjust?;
        adjust.linux?.resources?.unified.remove("memory.oom.group")
    }
}

fn pod() -> PodSandbox {
    PodSandbox {
        id: "f".repeat(64),
        name: "web-0".into(),
        uid: "2c39abf0-f543-4c05-8cfe-3839410aef01".into(),
        namespace: "shop".into(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        ..PodSandbox::default()
    }
}

fn container(number: u32, pid: u32) -> Container {
    let id = format!("{number:064x}");
    Container {
        id: id.clone(),
        pod_sandbox_id: "f".repeat(64),
        name: "worker".into(),
        linux: Some(LinuxContainer {
            resources: Some(resources("1")),
            cgroups_path: format!("/kubepods/pod2c39abf0-f543-4c05-8cfe-3839410aef01/{id}"),
        }),
        state: 0,
        pid,
    }
}

fn resources(value: &str) -> LinuxResources {
    LinuxResources {
        memory: None,
        unified: [("memory.oom.group".to_owned(), value.to_owned())].into(),
    }
}

fn about(pod: PodSandbox, container: Container) -> ContainerRequest {
    ContainerRequest { pod: Some(pod), container: Some(container), resources: None }
}

fn listen(socket: &Path) -> UnixListener {
    let _ = std::fs::remove_file(socket);
    UnixListener::bind(socket).unwrap()
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
    // What does not ask for a value is not answered: the runtime may not tell what it asks.
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

/// The core decides by the labels of now, and so does this: else they would fight.
#[tokio::test]
async fn the_labels_are_those_of_now() {
    let scene = Scene::new("labels", false);
    let listener = listen(&scene.socket);
    let (mut runtime, _) = Runtime::meet(&listener, Vec::new()).await;
    let labelled = |app: &str| {
        let labels = [("app".to_owned(), app.to_owned())].into();
        super::pod(&PodSandbox { labels, ..pod() }).map(Box::new).unwrap()
    };
    let update =
        ContainerRequest { resources: Some(resources("1")), ..about(pod(), container(1, 77)) };
    scene.pods.apply(&crate::pods::Event::Applied(labelled("db")));
    assert_eq!(runtime.create(&about(pod(), container(1, 0))).await, None);
    let answer = runtime.ask("UpdateContainer", update.encode_to_vec()).await;
    assert_eq!(answer, Bytes::new(), "its label was taken away");
    let other = PodSandbox { labels: Default::default(), ..pod() };
    scene.pods.apply(&crate::pods::Event::Applied(labelled("web")));
    assert_eq!(runtime.create(&about(other, container(2, 0))).await.as_deref(), Some("0"));
}

/// Else it would never be made.
#[tokio::test]
async fn a_container_that_another_plugin_wants_otherwise_is_made_at_the_second_try() {
    let scene = Scene::new("contested", false);
    let listener = listen(&scene.socket);
    let (mut runtime, _) = Runtime::meet(&listener, Vec::new()).await;
    assert_eq!(runtime.create(&about(pod(), container(1, 0))).await.as_deref(), Some("0"));
    assert_eq!(runtime.create(&about(pod(), container(2, 0))).await, None);
    assert_eq!(scene.answers("conflict"), "1");
    let sidecar = |number| Container { name: "sidecar".into(), ..container(number, 0) };
    assert_eq!(runtime.create(&about(pod(), sidecar(3))).await.as_deref(), Some("0"));
    runtime.ask("PostStartContainer", about(pod(), sidecar(3)).encode_to_vec()).await;
    assert_eq!(runtime.create(&about(pod(), sidecar(4))).await.as_deref(), Some("0"));
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
    let nobody = ContainerRequest { container: None, ..about(pod(), container(1, 0)) };
    assert_eq!(runtime.ask_bytes(vec![0xff; 9]).await, Bytes::new());
    assert_eq!(runtime.ask("CreateContainer", vec![0xff; 9]).await, Bytes::new());
    for odd in [about(pod(), nowhere), nobody] {
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

/// Else the agent would never end: the core waits until nobody can send to it.
#[tokio::test]
async fn a_connection_does_not_keep_the_core_alive() {
    let mut scene = Scene::new("end", false);
    let listener = listen(&scene.socket);
    let (_runtime, _) = Runtime::meet(&listener, vec![container(1, 0)]).await;
    scene.learnt().await;
    scene.commands = None;
    let ended = timeout(Duration::from_secs(5), scene.received.recv()).await.unwrap();
    assert!(ended.is_none());
}
