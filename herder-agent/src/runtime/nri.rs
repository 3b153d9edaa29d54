//! The container runtime, asked before it makes a container: by NRI, the interface
//! for plugins of containerd (on by default since 2.0) and CRI-O (since 1.30).
//!
//! Written into a container's spec, `memory.oom.group` is right from the program's
//! first instruction, and a runtime that maps it to systemd's `OOMPolicy=` maps the
//! right one, which cannot be changed later. The runtime also reports at once what the
//! API server has seconds later: names, and which process is a container's init.
//!
//! The runtime waits for each answer. So a request that causes an error gets an empty answer,
//! is counted, and is left to enforcement by cgroup, which continues for all containers.
//! A connection that ends is made again. Nothing here waits for the core.

mod adjust;
mod awaited;
mod contested;
mod learnt;
mod list;
pub mod mux;
mod session;
pub mod wire;

pub use adjust::{
    AdjustError, Wish, allows_swap, desired_adjustment, learn, pod_from_sandbox, spec_resources,
};
pub use awaited::Awaited;

use herder_model::{
    backoff::{Backoff, Pace, random},
    causes::Causes,
    naming::runtime::RuntimeContainer,
    pods::{Pod, current::CurrentPods},
    rules::matching::{Policy, Target},
};
use learnt::{LISTED_WITHIN, Learnt};
use session::Session;
use std::{collections::BTreeSet, io, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    net::UnixStream,
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

/// How soon a lost runtime is looked for again, and how often a missing one.
pub const PACE: Pace = Pace { first: Duration::from_millis(250), longest: Duration::from_secs(5) };

/// The longest step between tries with a runtime that is there and does not keep the
/// connection: it may list its containers each time, and makes none meanwhile.
const LONGEST_CUT: Duration = Duration::from_secs(15);

/// A connection that lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(60);

herder_model::labels! {
    /// What was answered about a container.
    pub enum Outcome {
        /// The rule's value was set.
        Set = "set",
        /// The value was right already.
        Kept = "kept",
        /// The request has no value: an update of something else, or a runtime that does not
        /// report the value that it is about to write. Or the labels of now are not known yet.
        NotAsked = "not-asked",
        /// Another plugin wants another value, so that the container was not made when this
        /// one was set. It is left to the enforcement by cgroup.
        Conflict = "conflict",
        /// No rule wants a value.
        Unmatched = "unmatched",
        /// The rule's value was not set, since the agent is to write nothing.
        DryRun = "dry-run",
        /// The request was not understood, and nothing was changed.
        Error = "error",
    }
}

/// An answer, to be reported.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    pub container: &'a str,
    /// The rule and its value, if there is one for it.
    pub target: Option<&'a Target>,
    pub outcome: Outcome,
}

/// Receives what happens here, to log and count it.
pub trait Listener: Send + Sync {
    fn answered(&self, answer: &Answer<'_>);

    /// The runtime asked about a pod that no kubelet made.
    fn unmatched(&self);

    /// The runtime was answered with nothing, since something was wrong.
    fn failed(&self, error: &dyn std::error::Error);

    /// How long an answer took.
    fn took(&self, took: Duration);

    /// What became of one try to be asked by the runtime.
    fn attempted(&self, attempt: Attempt);

    /// Whether the runtime asks this agent.
    fn connected(&self, connected: bool);
}

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum NriError {
    #[error("cannot connect: {0}")]
    Unreachable(io::Error),
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the runtime closed the connection")]
    Closed,
    #[error(transparent)]
    Frame(#[from] mux::FrameError),
    #[error("the runtime refused to register: {0}")]
    Refused(String),
    #[error("the runtime did not {0} in time")]
    Silent(&'static str),
}

herder_model::labels! {
    /// What became of one try to be asked by the runtime.
    pub enum Attempt {
        /// It has listed its containers, and asks from now on.
        Connected = "connected",
        /// There is no socket, or nothing listens on it.
        Unreachable = "unreachable",
        /// It refused to register the plugin.
        Refused = "refused",
        /// It did not list its containers, or read an answer, in time.
        TimedOut = "timeout",
        /// It ended the connection before it had listed its containers.
        Closed = "closed",
        /// What it sent is not NRI.
        Malformed = "malformed",
    }
}

impl NriError {
    fn attempt(&self) -> Attempt {
        match self {
            Self::Unreachable(_) => Attempt::Unreachable,
            Self::Io(_) | Self::Closed => Attempt::Closed,
            Self::Frame(_) => Attempt::Malformed,
            Self::Refused(_) => Attempt::Refused,
            Self::Silent(_) => Attempt::TimedOut,
        }
    }
}

/// A plugin, whether or not it is connected.
pub struct Plugin {
    pub socket: PathBuf,
    /// Whether to warn if there is no socket.
    pub expected: bool,
    /// Change nothing; report what would be changed.
    pub dry_run: bool,
    pub policies: watch::Receiver<Arc<Policy>>,
    /// The current labels of pods, as far as the API server has sent them.
    pub pods: CurrentPods,
    /// Whose cgroups the core has to notice.
    pub awaited: Awaited,
    pub listener: Arc<dyn Listener>,
    /// Receives what the runtime reports about containers.
    pub learnt: mpsc::Sender<Vec<RuntimeContainer>>,
}

impl Plugin {
    /// Connects, answers, and connects again, for ever.
    pub async fn run(self, pace: Pace) {
        let mut missing = Backoff::new(pace);
        let mut cut = Backoff::new(Pace { longest: LONGEST_CUT, ..pace });
        let mut logged = BTreeSet::new();
        let mut learnt = Learnt::new(self.pods.clone(), LISTED_WITHIN);
        loop {
            let (error, wait) = match UnixStream::connect(&self.socket).await {
                Ok(stream) => {
                    missing.reset();
                    let began = Instant::now();
                    let mut session = Session::new(&self, stream, &mut learnt);
                    let Err(error) = session.run().await;
                    if session.synchronized {
                        logged.clear();
                    } else {
                        self.listener.attempted(error.attempt());
                    }
                    if began.elapsed() >= GOOD && session.synchronized {
                        cut.reset();
                    }
                    (error, cut.after_failure(random()))
                }
                Err(error) => {
                    self.listener.attempted(Attempt::Unreachable);
                    (NriError::Unreachable(error), missing.after_failure(random()))
                }
            };
            self.listener.connected(false);
            // Each reason once until there is a connection again; the metric has each try.
            if logged.insert(error.attempt()) {
                self.log(&error);
            }
            // What the last connection has brought is delivered meanwhile.
            let _ = timeout(wait, learnt.deliver(&self.learnt)).await;
        }
    }

    /// A pod with the labels and annotations of now, as far as they are known: by those
    /// the core decides, and the two must not differ.
    fn now(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        self.pods.get(pod.uid).unwrap_or_else(|| pod.clone())
    }

    fn log(&self, error: &NriError) {
        let socket = self.socket.display();
        let missing = matches!(error, NriError::Unreachable(error) if error.kind() == io::ErrorKind::NotFound);
        if missing && !self.expected {
            tracing::info!(%socket, "The runtime offers no NRI; values are corrected after it wrote them.");
        } else {
            tracing::warn!(%socket, error = %Causes(error), "No NRI; values are corrected after the runtime wrote them. The agent keeps trying; herder_nri_connections_total counts the attempts.");
        }
    }
}

#[cfg(test)]
mod tests;
