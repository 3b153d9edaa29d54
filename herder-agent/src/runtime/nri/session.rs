//! One connection to the runtime, from the registration to its end.

use super::{
    AdjustError, Answer, Attempt, NriError, Outcome, Plugin, Wish, allows_swap,
    contested::Contested,
    desired_adjustment, learn,
    learnt::Learnt,
    list::List,
    mux::{Connection, Demultiplexer, Kind, Message},
    pod_from_sandbox, spec_resources,
    wire::{
        ConfigureRequest, ConfigureResponse, Container, ContainerRequest, CreateContainerResponse,
        LinuxResources, PodSandbox, RUNTIME_SERVICE, RegisterPluginRequest, Request, Response,
        StateChangeEvent, SynchronizeRequest, SynchronizeResponse, UpdateContainerResponse, event,
    },
};
use bytes::{Bytes, BytesMut};
use herder_model::{
    naming::runtime::RuntimeContainer, owner::id::PodUid, pods::Pod, rules::matching::Policy,
};
use prost::{DecodeError, Message as _};
use std::{convert::Infallible, mem, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{Instant, sleep_until, timeout},
};

const NAME: &str = "herder";

/// The last of all: only then does it see what others have set. NRI refuses to make a
/// container for which two plugins set the same, so what is right is not set again.
const INDEX: &str = "99";

/// How long the runtime may take until it has listed all of its containers. It takes one
/// new plugin after the other, gives each five seconds, and on a busy node needs a while
/// to list its containers. It waits for nothing of ours meanwhile.
const SYNCHRONIZED_WITHIN: Duration = Duration::from_secs(2 * 60);

/// How long the runtime may take to read an answer. Its own patience with plugins, two
/// seconds by default, ends before.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// Containers that the runtime is asked to change when it is met. It makes no
/// containers meanwhile, and those that are left out are enforced by their cgroups.
const MOST_UPDATED: usize = 16;

/// Bytes that are read at once.
const READ_AT_ONCE: usize = 16 * 1024;

/// Why a question is answered with nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("the runtime's {what} cannot be read: {source}")]
    Decode { what: &'static str, source: DecodeError },
    #[error("the runtime's {0} names no container")]
    Nothing(&'static str),
    #[error(transparent)]
    Adjust(#[from] AdjustError),
}

pub(super) struct Session<'a> {
    plugin: &'a Plugin,
    stream: UnixStream,
    /// What the runtime has listed so far, if it lists its containers in parts.
    list: List,
    /// For which containers another plugin wants something else.
    contested: Contested,
    /// What still has to be sent to the core.
    learnt: &'a mut Learnt,
    /// All of the runtime's containers are known, and it was answered.
    pub(super) synchronized: bool,
    listed: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(plugin: &'a Plugin, stream: UnixStream, learnt: &'a mut Learnt) -> Self {
        Session {
            plugin,
            stream,
            list: List::default(),
            contested: Contested::default(),
            learnt,
            synchronized: false,
            listed: false,
        }
    }

    /// Registers, and answers until the connection ends.
    pub(super) async fn run(&mut self) -> Result<Infallible, NriError> {
        self.register().await?;
        let deadline = Instant::now() + SYNCHRONIZED_WITHIN;
        let (mut demultiplexer, mut socket) = (Demultiplexer::default(), BytesMut::new());
        loop {
            while let Some(message) = demultiplexer.next(&mut socket)? {
                self.take(message).await?;
            }
            socket.reserve(READ_AT_ONCE);
            tokio::select! {
                read = self.stream.read_buf(&mut socket) => {
                    if read? == 0 {
                        return Err(NriError::Closed);
                    }
                }
                never = self.learnt.deliver(&self.plugin.learnt) => match never {},
                () = sleep_until(deadline), if !self.synchronized => {
                    return Err(NriError::Silent("list its containers"));
                }
            }
        }
    }

    async fn register(&mut self) -> Result<(), NriError> {
        let register = RegisterPluginRequest { plugin_name: NAME.into(), plugin_idx: INDEX.into() };
        let request = Request {
            service: RUNTIME_SERVICE.into(),
            method: "RegisterPlugin".into(),
            payload: register.encode_to_vec().into(),
            timeout: 0,
        };
        self.send(&Message {
            connection: Connection::Runtime,
            stream: 1,
            kind: Kind::Request,
            body: request.encode_to_vec().into(),
        })
        .await
    }

    async fn send(&mut self, message: &Message) -> Result<(), NriError> {
        // What is too long is not sent, and the runtime's patience ends.
        let frames = message.frames().unwrap_or_default();
        let written = timeout(READ_WITHIN, self.stream.write_all(&frames)).await;
        Ok(written.map_err(|_| NriError::Silent("read an answer"))??)
    }

    async fn take(&mut self, message: Message) -> Result<(), NriError> {
        match (message.connection, message.kind) {
            (Connection::Plugin, Kind::Request) => {
                let began = Instant::now();
                let payload = self.answer(message.body.clone());
                let response = Response { status: None, payload };
                let body = response.encode_to_vec().into();
                self.send(&Message { kind: Kind::Response, body, ..message }).await?;
                if self.listed && !self.synchronized {
                    self.synchronized = true;
                    self.plugin.listener.connected(true);
                    self.plugin.listener.attempted(Attempt::Connected);
                }
                self.plugin.listener.took(began.elapsed());
            }
            // The only question is to be registered.
            (Connection::Runtime, Kind::Response) => {
                let status = Response::decode(message.body).ok().and_then(|it| it.status);
                if let Some(status) = status.filter(|status| status.code != 0) {
                    return Err(NriError::Refused(status.message));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The answer to whatever is asked: nothing if it is not understood, which every
    /// runtime takes for "as you like".
    fn answer(&mut self, body: Bytes) -> Bytes {
        let request: Result<Request, _> = decode("question", body);
        let answered = request.and_then(|it| self.answer_method(&it.method, it.payload));
        answered.unwrap_or_else(|error| {
            self.plugin.listener.failed(&error);
            Bytes::new()
        })
    }

    fn answer_method(&mut self, method: &str, payload: Bytes) -> Result<Bytes, AnswerError> {
        match method {
            "Configure" => Ok(configure(&decode("configuration", payload)?)),
            "Synchronize" => Ok(self.synchronize(decode("list of containers", payload)?)),
            "CreateContainer" => self.create(decode("new container", payload)?),
            "UpdateContainer" => self.update(decode("update of a container", payload)?),
            "PostCreateContainer" => self.news(event::POST_CREATE_CONTAINER, payload),
            "PostStartContainer" => self.news(event::POST_START_CONTAINER, payload),
            "StateChange" => {
                let StateChangeEvent { event, pod, container } =
                    decode("news of a container", payload)?;
                self.happened(event, ContainerRequest { pod, container, resources: None });
                Ok(Bytes::new())
            }
            _ => Ok(Bytes::new()),
        }
    }

    fn synchronize(&mut self, request: SynchronizeRequest) -> Bytes {
        let SynchronizeRequest { pods, containers, more } = request;
        self.list.add(pods, containers);
        if more {
            let response = SynchronizeResponse { update: Vec::new(), more };
            return response.encode_to_vec().into();
        }
        let list = mem::take(&mut self.list);
        let (containers, left_out) = list.counts();
        let (mut update, mut failed) = (Vec::new(), false);
        self.learnt.list_begins();
        for (pod, container) in list.into_containers() {
            let mut learnt = learn(&pod, &container);
            // The runtime keeps what it is answered.
            if self.learnt.awaits_labels(&pod) {
                self.learn(learnt);
                continue;
            }
            let given = spec_resources(&container);
            let wish =
                desired_adjustment(&self.policy(), &self.plugin.now(&pod), &container, given);
            // One is enough: they are alike.
            if let Err(error) = &wish
                && !mem::replace(&mut failed, true)
            {
                self.plugin.listener.failed(error);
            }
            if let Ok(Some(wish)) = wish
                && !wish.is_fulfilled()
                && !allows_swap(&container)
                && (container.is_created() || container.runs())
                && update.len() < MOST_UPDATED
                && self.report_answer(&pod, &container, self.outcome(&wish), Some(&wish))
                    == Outcome::Set
            {
                update.push(wish.update(&container.id));
                if let Some(learnt) = &mut learnt {
                    learnt.instead_of = wish.found;
                }
            }
            self.learn(learnt);
        }
        self.listed = true;
        tracing::info!(
            containers,
            left_out,
            updates = update.len(),
            "NRI: the runtime's containers are known."
        );
        SynchronizeResponse { update, more: false }.encode_to_vec().into()
    }

    fn create(&mut self, request: ContainerRequest) -> Result<Bytes, AnswerError> {
        let (sandbox, container, _) = required_parts("new container", request)?;
        let pod = pod_from_sandbox(&sandbox).map(Arc::new);
        let Some(pod) = pod else { return Ok(self.unmatched(&sandbox)) };
        let mut learnt = learn(&pod, &container);
        let given = spec_resources(&container);
        let wish = desired_adjustment(&self.policy(), &self.plugin.now(&pod), &container, given);
        let mut adjust = None;
        if let Ok(wish) = &wish {
            let mut outcome = wish.as_ref().map_or(Outcome::Unmatched, |wish| self.outcome(wish));
            if outcome == Outcome::Set && self.is_contested(pod.uid, &container) {
                outcome = Outcome::Conflict;
            }
            self.report_answer(&pod, &container, outcome, wish.as_ref());
            if let (Outcome::Set, Some(wish)) = (outcome, wish) {
                adjust = Some(wish.adjustment());
                if let Some(learnt) = &mut learnt {
                    learnt.instead_of = wish.found;
                }
            }
        }
        self.learn(learnt);
        wish?;
        Ok(CreateContainerResponse { adjust }.encode_to_vec().into())
    }

    /// Whether a value is better not set. If the last try was followed by no news of the container
    /// and no cgroup, the runtime refused it.
    fn is_contested(&mut self, pod: PodUid, container: &Container) -> bool {
        let (name, now) = (&container.name, Instant::now());
        let awaited = &self.plugin.awaited;
        if let Some(last) = self.contested.last(pod, name)
            && awaited.take(&last)
        {
            self.contested.agreed(pod, name, &last, now);
        }
        awaited.wait_for(&container.id);
        self.contested.record_attempt(pod, name, &container.id, now)
    }

    /// An update is changed only if it is known to carry the other value. A runtime that
    /// does not send the value takes the answer for all of `unified`, and so forgets the
    /// kubelet's other keys (`FromCRILinuxResources()`, containerd/nri before 0.9).
    fn update(&mut self, request: ContainerRequest) -> Result<Bytes, AnswerError> {
        let (sandbox, container, given) = required_parts("update of a container", request)?;
        let pod = pod_from_sandbox(&sandbox).map(Arc::new);
        let Some(pod) = pod else { return Ok(self.unmatched(&sandbox)) };
        let wish =
            desired_adjustment(&self.policy(), &self.plugin.now(&pod), &container, given.as_ref())?;
        let outcome = match &wish {
            None => Outcome::Unmatched,
            Some(wish)
                if wish.found.is_none()
                    || allows_swap(&container)
                    || self.learnt.awaits_labels(&pod) =>
            {
                Outcome::NotAsked
            }
            Some(wish) => self.outcome(wish),
        };
        self.report_answer(&pod, &container, outcome, wish.as_ref());
        let wish = wish.filter(|_| outcome == Outcome::Set);
        let update = wish.map(|wish| wish.update(&container.id)).into_iter().collect();
        Ok(UpdateContainerResponse { update }.encode_to_vec().into())
    }

    /// What newer runtimes report by a method of its own.
    fn news(&mut self, event: i32, payload: Bytes) -> Result<Bytes, AnswerError> {
        self.happened(event, decode("news of a container", payload)?);
        Ok(Bytes::new())
    }

    fn happened(&mut self, event: i32, request: ContainerRequest) {
        let Ok((sandbox, container, _)) = required_parts("news of a container", request) else {
            return;
        };
        let Some(pod) = pod_from_sandbox(&sandbox) else { return };
        if matches!(event, event::POST_CREATE_CONTAINER | event::POST_START_CONTAINER) {
            self.contested.agreed(pod.uid, &container.name, &container.id, Instant::now());
        }
        if event == event::POST_START_CONTAINER {
            self.learn(learn(&Arc::new(pod), &container));
        }
    }

    /// A pod that no kubelet made.
    fn unmatched(&self, sandbox: &PodSandbox) -> Bytes {
        tracing::debug!(sandbox = sandbox.id, "NRI: the sandbox is not a pod of the kubelet.");
        self.plugin.listener.unmatched();
        Bytes::new()
    }

    fn learn(&mut self, learnt: Option<RuntimeContainer>) {
        learnt.into_iter().for_each(|learnt| self.learnt.add(learnt));
    }

    fn policy(&self) -> Arc<Policy> {
        self.plugin.policies.borrow().clone()
    }

    fn outcome(&self, wish: &Wish) -> Outcome {
        if wish.is_fulfilled() {
            Outcome::Kept
        } else if self.plugin.dry_run {
            Outcome::DryRun
        } else {
            Outcome::Set
        }
    }

    fn report_answer(
        &self,
        pod: &Pod,
        container: &Container,
        outcome: Outcome,
        wish: Option<&Wish>,
    ) -> Outcome {
        self.plugin.listener.answered(&Answer {
            namespace: &pod.namespace,
            pod: &pod.name,
            container: &container.name,
            target: wish.map(|wish| &wish.target),
            outcome,
        });
        outcome
    }
}

fn configure(request: &ConfigureRequest) -> Bytes {
    let ConfigureRequest { runtime_name, runtime_version } = request;
    tracing::info!(runtime = runtime_name, version = runtime_version, "NRI: connected.");
    ConfigureResponse { events: event::MASK }.encode_to_vec().into()
}

fn required_parts(
    what: &'static str,
    request: ContainerRequest,
) -> Result<(PodSandbox, Container, Option<LinuxResources>), AnswerError> {
    match request {
        ContainerRequest { pod: Some(pod), container: Some(container), resources } => {
            Ok((pod, container, resources))
        }
        _ => Err(AnswerError::Nothing(what)),
    }
}

fn decode<M: prost::Message + Default>(what: &'static str, bytes: Bytes) -> Result<M, AnswerError> {
    M::decode(bytes).map_err(|source| AnswerError::Decode { what, source })
}
