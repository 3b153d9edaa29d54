//! A runtime of the tests, which speaks NRI as containerd does, and what it asks about.

use crate::runtime::nri::{
    mux::{Connection, Demultiplexer, Kind, Message},
    wire::{
        ConfigureRequest, Container, ContainerRequest, CreateContainerResponse, LinuxContainer,
        LinuxResources, PodSandbox, RegisterPluginRequest, Request, Response, StateChangeEvent,
        Status, SynchronizeRequest, SynchronizeResponse,
    },
};
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use std::{path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::timeout,
};

/// The runtime's end of one connection.
pub(super) struct Runtime {
    pub(super) stream: UnixStream,
    demultiplexer: Demultiplexer,
    buffer: BytesMut,
    stream_id: u32,
}

impl Runtime {
    pub(super) async fn accept(listener: &UnixListener) -> Self {
        Self::accept_within(listener, Duration::from_secs(5)).await
    }

    async fn accept_within(listener: &UnixListener, patience: Duration) -> Self {
        let accepted = timeout(patience, listener.accept()).await.unwrap();
        Runtime {
            stream: accepted.unwrap().0,
            demultiplexer: Demultiplexer::default(),
            buffer: BytesMut::new(),
            stream_id: 1,
        }
    }

    /// Takes the registration, and asks what comes after it.
    pub(super) async fn meet(
        listener: &UnixListener,
        running: Vec<Container>,
    ) -> (Self, SynchronizeResponse) {
        let mut runtime = Self::accept(listener).await;
        let answer = runtime.get_to_know(running).await;
        (runtime, answer)
    }

    /// The same with a plugin that may take so long to come.
    pub(super) async fn meet_within(
        listener: &UnixListener,
        patience: Duration,
    ) -> (Self, SynchronizeResponse) {
        let mut runtime = Self::accept_within(listener, patience).await;
        let answer = runtime.get_to_know(Vec::new()).await;
        (runtime, answer)
    }

    async fn get_to_know(&mut self, running: Vec<Container>) -> SynchronizeResponse {
        self.register(None).await;
        let answer = self.configure("containerd").await;
        assert_eq!(answer, [0x10, 0xd8, 1][..], "the events 4, 5, 7 and 8");
        self.synchronize(running).await
    }

    pub(super) async fn configure(&mut self, name: &str) -> Bytes {
        let request = ConfigureRequest { runtime_name: name.into(), runtime_version: "1".into() };
        self.ask("Configure", request.encode_to_vec()).await
    }

    pub(super) async fn synchronize(&mut self, running: Vec<Container>) -> SynchronizeResponse {
        let request = SynchronizeRequest { pods: vec![pod()], containers: running, more: false };
        let answer = self.ask("Synchronize", request.encode_to_vec()).await;
        SynchronizeResponse::decode(answer).unwrap()
    }

    pub(super) async fn register(&mut self, status: Option<Status>) {
        let asked = self.read().await;
        assert_eq!((asked.connection, asked.kind), (Connection::Runtime, Kind::Request));
        let request = Request::decode(asked.body.clone()).unwrap();
        assert_eq!(request.method, "RegisterPlugin");
        let register = RegisterPluginRequest::decode(request.payload).unwrap();
        assert_eq!((&*register.plugin_name, &*register.plugin_idx), ("herder", "99"));
        let body = Response { status, payload: Bytes::new() }.encode_to_vec().into();
        self.write(&Message { kind: Kind::Response, body, ..asked }).await;
    }

    pub(super) async fn ask(&mut self, method: &str, payload: impl Into<Bytes>) -> Bytes {
        let request = Request {
            service: "nri.pkg.api.v1alpha1.Plugin".into(),
            method: method.into(),
            payload: payload.into(),
            timeout: 2_000_000_000,
        };
        self.ask_bytes(request.encode_to_vec()).await
    }

    pub(super) async fn ask_bytes(&mut self, body: Vec<u8>) -> Bytes {
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

    pub(super) async fn write(&mut self, message: &Message) {
        self.stream.write_all(&message.frames().unwrap()).await.unwrap();
    }

    pub(super) async fn read(&mut self) -> Message {
        loop {
            if let Some(message) = self.demultiplexer.next(&mut self.buffer).unwrap() {
                return message;
            }
            let read = timeout(Duration::from_secs(5), self.stream.read_buf(&mut self.buffer));
            assert_ne!(read.await.unwrap().unwrap(), 0, "the plugin has hung up");
        }
    }

    /// Reports that something has happened to a container.
    pub(super) async fn announce(&mut self, event: i32, container: Container) {
        let news = StateChangeEvent { event, pod: Some(pod()), container: Some(container) };
        assert_eq!(self.ask("StateChange", news.encode_to_vec()).await, Bytes::new());
    }

    /// The value that a new container's spec gets.
    pub(super) async fn create(&mut self, request: &ContainerRequest) -> Option<String> {
        let answer = self.ask("CreateContainer", request.encode_to_vec()).await;
        let adjust = CreateContainerResponse::decode(answer).unwrap().adjust?;
        adjust.linux?.resources?.unified.remove("memory.oom.group")
    }
}

pub(in crate::runtime::nri) fn pod() -> PodSandbox {
    PodSandbox {
        id: "f".repeat(64),
        name: "web-0".into(),
        uid: "2c39abf0-f543-4c05-8cfe-3839410aef01".into(),
        namespace: "shop".into(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        ..PodSandbox::default()
    }
}

pub(in crate::runtime::nri) fn container(number: u32, pid: u32) -> Container {
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

pub(super) fn resources(value: &str) -> LinuxResources {
    LinuxResources {
        memory: None,
        unified: [("memory.oom.group".to_owned(), value.to_owned())].into(),
    }
}

pub(super) fn about(pod: PodSandbox, container: Container) -> ContainerRequest {
    ContainerRequest { pod: Some(pod), container: Some(container), resources: None }
}

pub(super) fn listen(socket: &Path) -> UnixListener {
    let _ = std::fs::remove_file(socket);
    UnixListener::bind(socket).unwrap()
}
