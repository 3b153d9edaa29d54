//! What other parts send to the core and ask of it: each by a channel of its own type, so that none
//! of them has to know the core.

use crate::{
    enforce::Restarted,
    report::requests::{PodRequest, StatesRequest},
    runtime::roles::FoundRole,
};
use herder_model::{naming::runtime::RuntimeContainer, pods::Event, rules::matching::Policy};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// The ends of the channels that the core reads.
pub struct Inbox {
    /// The rules, when they change.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// What the API server reports about pods.
    pub pods: mpsc::Receiver<Event>,
    /// What the container runtime reports about containers.
    pub learnt: mpsc::Receiver<Vec<RuntimeContainer>>,
    /// What the bundles of new containers say they are.
    pub roles: mpsc::Receiver<Vec<FoundRole>>,
    /// What came of restarts.
    pub restarts: mpsc::Receiver<Restarted>,
    /// Requests for the state of matched containers.
    pub states: mpsc::Receiver<StatesRequest>,
    /// Requests for the pod at an address.
    pub connected: mpsc::Receiver<PodRequest>,
    /// The agent ends, when something is sent or its sender is dropped.
    pub stop: oneshot::Receiver<()>,
}

/// One of what comes in.
pub enum Message {
    /// Other rules.
    Policy(Arc<Policy>),
    /// From the API server.
    Pod(Event),
    /// From the container runtime.
    RuntimeContainers(Vec<RuntimeContainer>),
    /// From the bundles of new containers.
    Roles(Vec<FoundRole>),
    /// A restart is over.
    Restarted(Restarted),
    /// A question for the state of matched containers.
    States(StatesRequest),
    /// A question for the pod at an address.
    Connected(PodRequest),
}

impl Inbox {
    /// Waits for the next; none when the agent is to end, after which nothing is asked any more.
    pub(super) async fn next(&mut self) -> Option<Message> {
        // Whichever channel is full, the others have their turn: the choice is random.
        tokio::select! {
            _ = &mut self.stop => None,
            Ok(()) = self.policy.changed() => Some(self.policy()),
            Some(event) = self.pods.recv() => Some(Message::Pod(event)),
            Some(learnt) = self.learnt.recv() => Some(Message::RuntimeContainers(learnt)),
            Some(found) = self.roles.recv() => Some(Message::Roles(found)),
            Some(restarted) = self.restarts.recv() => Some(Message::Restarted(restarted)),
            Some(request) = self.states.recv() => Some(Message::States(request)),
            Some(request) = self.connected.recv() => Some(Message::Connected(request)),
        }
    }

    /// What is there already. `turn` is another one at each call, so that each channel comes first
    /// in its turn.
    pub(super) fn try_next(&mut self, turn: u32) -> Option<Message> {
        (0..7).find_map(|next| match turn.wrapping_add(next) % 7 {
            0 => self.policy.has_changed().unwrap_or(false).then(|| self.policy()),
            1 => self.pods.try_recv().ok().map(Message::Pod),
            2 => self.learnt.try_recv().ok().map(Message::RuntimeContainers),
            3 => self.roles.try_recv().ok().map(Message::Roles),
            4 => self.restarts.try_recv().ok().map(Message::Restarted),
            5 => self.connected.try_recv().ok().map(Message::Connected),
            _ => self.states.try_recv().ok().map(Message::States),
        })
    }

    /// Whether the agent is to end.
    pub(super) fn is_stopped(&mut self) -> bool {
        !matches!(self.stop.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    fn policy(&mut self) -> Message {
        Message::Policy(self.policy.borrow_and_update().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Others {
        policy: watch::Sender<Arc<Policy>>,
        pods: mpsc::Sender<Event>,
        learnt: mpsc::Sender<Vec<RuntimeContainer>>,
        roles: mpsc::Sender<Vec<FoundRole>>,
        _states: mpsc::Sender<StatesRequest>,
        _restarts: mpsc::Sender<Restarted>,
        _connected: mpsc::Sender<PodRequest>,
        stop: oneshot::Sender<()>,
    }

    fn inbox() -> (Inbox, Others) {
        let (policy, policies) = watch::channel(Arc::default());
        let (pods, pod_events) = mpsc::channel(8);
        let (learnt, learnts) = mpsc::channel(8);
        let (roles, found) = mpsc::channel(8);
        let (states, requests) = mpsc::channel(8);
        let (restarts, restarted) = mpsc::channel(8);
        let (asks, connected) = mpsc::channel(8);
        let (stop, stopped) = oneshot::channel();
        let inbox = Inbox {
            policy: policies,
            pods: pod_events,
            learnt: learnts,
            roles: found,
            restarts: restarted,
            states: requests,
            connected,
            stop: stopped,
        };
        let others = Others {
            policy,
            pods,
            learnt,
            roles,
            _states: states,
            _restarts: restarts,
            _connected: asks,
            stop,
        };
        (inbox, others)
    }

    fn name(message: &Message) -> &'static str {
        match message {
            Message::Policy(_) => "policy",
            Message::Pod(_) => "pod",
            Message::RuntimeContainers(_) => "learnt",
            Message::Roles(_) => "roles",
            Message::Restarted(_) => "restarted",
            Message::States(_) => "states",
            Message::Connected(_) => "connected",
        }
    }

    /// Else the agent would never end: a connection of the runtime may last for ever.
    #[tokio::test]
    async fn it_ends_at_the_signal_although_all_can_still_send() {
        let (mut inbox, others) = inbox();
        assert!(!inbox.is_stopped());
        drop(others.stop);
        assert!(inbox.next().await.is_none());
        assert!(others.pods.try_send(Event::Listed).is_ok());
        let (mut inbox, others) = self::inbox();
        drop(others.stop);
        assert!(inbox.is_stopped());
    }

    #[tokio::test]
    async fn those_who_are_gone_end_nothing() {
        let (mut inbox, others) = inbox();
        let Others { policy, pods, learnt, roles, _states, _restarts, _connected, stop } = others;
        drop((policy, pods, roles, _states, _restarts, _connected));
        learnt.send(Vec::new()).await.unwrap();
        assert_eq!(inbox.next().await.as_ref().map(name), Some("learnt"));
        drop(learnt);
        assert!(inbox.try_next(0).is_none());
        assert!(!inbox.is_stopped());
        drop(stop);
        assert!(inbox.next().await.is_none());
    }

    #[test]
    fn each_channel_comes_first_in_its_turn() {
        let (mut inbox, others) = inbox();
        for _ in 0..3 {
            others.pods.try_send(Event::Listed).unwrap();
        }
        others.learnt.try_send(Vec::new()).unwrap();
        others.roles.try_send(Vec::new()).unwrap();
        others.policy.send(Arc::default()).unwrap();
        let first = |turn| inbox.try_next(turn).as_ref().map(name);
        let came: Vec<_> = (1..8).filter_map(first).collect();
        assert_eq!(came, ["pod", "learnt", "roles", "policy", "pod", "pod"]);
        assert!(inbox.try_next(8).is_none());
    }
}
