//! Kills all processes of a container by its own cgroup, so that whatever started it starts it anew.
//!
//! The core orders it, and a thread of its own writes: the kernel may keep the writer waiting for
//! long. Between the two the rule may go, or the container. So the writer looks at the [`Lease`]
//! right before the write, and writes by the descriptor of the very cgroup that was matched.

use super::Enforcer;
use crate::kernel::cgroupfs::dir::{CgroupDir, KillError};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    escalation::{
        Escalate,
        node::{Lease, Subject},
    },
};
use std::sync::Arc;
use tokio::{sync::mpsc, task::spawn_blocking};

/// An order to kill all processes of a container.
#[derive(Debug)]
pub struct RestartRequest {
    of: Subject,
    directory: CgroupDir,
    lease: Lease,
}

/// What came of it.
#[derive(Debug)]
pub struct Restarted {
    pub of: Subject,
    pub result: Result<(), RestartError>,
}

/// Why the processes were not killed.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// The rule, or the container, went before the write.
    #[error("the container went, or its rule did")]
    Revoked,
    /// The kernel refused.
    #[error(transparent)]
    Kill(#[from] KillError),
    /// There is no second descriptor for it.
    #[error("no file descriptor is left: {0}")]
    Descriptor(#[source] std::io::Error),
    /// The thread that writes has ended.
    #[error("the thread that writes it has ended")]
    NoWriter,
}

impl RestartRequest {
    /// Does it, on a thread that may block.
    pub fn write(self) -> Restarted {
        let Self { of, directory, lease } = self;
        let result = if lease.holds() {
            directory.kill().map_err(RestartError::from)
        } else {
            Err(RestartError::Revoked)
        };
        Restarted { of, result }
    }
}

/// Where the core orders restarts. The default goes nowhere.
#[derive(Debug, Default)]
pub struct RestartRequests(Option<mpsc::Sender<RestartRequest>>);

impl RestartRequests {
    /// Orders one, without waiting. The node has one at a time, so there is room. `before` is done
    /// only if it is ordered, and before that.
    pub fn ask(&self, request: RestartRequest, before: impl FnOnce()) -> Result<(), Restarted> {
        let Some(Ok(room)) = self.0.as_ref().map(mpsc::Sender::try_reserve) else {
            return Err(Restarted { of: request.of, result: Err(RestartError::NoWriter) });
        };
        before();
        room.send(request);
        Ok(())
    }
}

/// What writes.
#[derive(Debug)]
pub struct RestartWriter {
    requests: mpsc::Receiver<RestartRequest>,
    done: mpsc::Sender<Restarted>,
}

/// Where to order, what writes, and where the results come.
pub fn channel() -> (RestartRequests, RestartWriter, mpsc::Receiver<Restarted>) {
    let (to, requests) = mpsc::channel(1);
    let (done, results) = mpsc::channel(1);
    (RestartRequests(Some(to)), RestartWriter { requests, done }, results)
}

impl RestartWriter {
    /// Writes until the core orders or listens no more.
    pub async fn run(mut self) {
        while let Some(request) = self.requests.recv().await {
            let Ok(restarted) = spawn_blocking(|| request.write()).await else { return };
            if self.done.send(restarted).await.is_err() {
                return;
            }
        }
    }

    /// What is ordered, if anything is, for a caller that writes by hand.
    #[doc(hidden)]
    pub fn take_request(&mut self) -> Option<RestartRequest> {
        self.requests.try_recv().ok()
    }
}

/// What an escalation asks of a container.
impl Enforcer {
    /// The rule that a cgroup is under and what that escalates to, if it does.
    pub fn escalates(&self, id: CgroupId) -> Option<(Arc<str>, Escalate)> {
        let container = self.containers.get(&id)?;
        Some((container.rule().clone(), container.escalate()?))
    }

    /// Whether the kernel can kill all processes of a container by its cgroup.
    pub fn can_restart(&self, id: CgroupId) -> bool {
        let directory = self.containers.get(&id).and_then(|it| it.directory());
        directory.is_some_and(CgroupDir::has_kill)
    }

    /// The order to kill all processes of a container that is under a rule.
    pub fn restart(&self, of: Subject, lease: Lease) -> Result<RestartRequest, Restarted> {
        let directory = self.containers.get(&of.id).and_then(|it| it.directory());
        let directory = directory.ok_or(RestartError::Revoked);
        match directory.and_then(|it| it.duplicate().map_err(RestartError::Descriptor)) {
            Ok(directory) => Ok(RestartRequest { of, directory, lease }),
            Err(error) => Err(Restarted { of, result: Err(error) }),
        }
    }

    /// The value that a container has now.
    pub fn value(&self, id: CgroupId) -> Option<bool> {
        self.containers.get(&id)?.value()
    }

    /// Whether 1 is written if a container is released.
    pub fn restores_group(&self, id: CgroupId) -> bool {
        self.containers.get(&id).and_then(|it| it.value_to_restore()) == Some(true)
    }

    /// crun's cgroup in this scope, if its value counts.
    pub fn inner_of(&self, scope: &CgroupPath) -> Option<CgroupId> {
        self.shared.inner.get(scope).copied()
    }

    /// Whether nothing is written.
    pub fn is_dry_run(&self) -> bool {
        self.context.options.dry_run
    }
}
