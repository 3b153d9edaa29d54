//! A container whose rule escalates: what the tests of that have in common.

use super::node::Node;
use herder_agent::inside::{
    core::Message,
    enforce::{EscalationState, Restarted},
    kernel::cgroupfs::dir::KILL,
    report::requests::StatesRequest,
};
use std::{fs, ops::Range, time::Duration};
use tokio::sync::oneshot;

/// A rule that selects a pod's container by its names.
pub(crate) fn rules(escalate: &str) -> String {
    format!(
        "rules: [{{ name: web, pods: {{ namespaces: [shop], containers: [worker] }}, \
         oomGroup: single-process, escalate: {escalate} }}]"
    )
}

pub(crate) const GROUP: &str = "{ after: 3, within: 1m, to: group }";
pub(crate) const RESTART: &str = "{ after: 2, within: 1m, to: restart }";

pub(crate) fn node(name: &str, escalate: &str) -> Node {
    let mut node = Node::new(name, &rules(escalate));
    node.pods_are('a');
    node.pass(Duration::from_secs(1));
    node
}

/// A process dies that is another one for each decision.
pub(crate) fn process_dies(node: &Node, decision: u64, cgroup: u64) {
    let pid = 100 + u32::try_from(decision).unwrap();
    node.victim(decision, pid, 17, cgroup);
    node.decision(decision, cgroup, 0, (1, 1));
}

/// So many processes of the container die, one after the other.
pub(crate) fn processes_die(node: &mut Node, decisions: Range<u64>) {
    processes_die_in(node, decisions, node.worker);
}

pub(crate) fn processes_die_in(node: &mut Node, decisions: Range<u64>, cgroup: u64) {
    for decision in decisions {
        process_dies(node, decision, cgroup);
        node.pass(Duration::from_secs(1));
    }
}

pub(crate) fn escalations(node: &Node, to: &str, result: &str) -> Option<f64> {
    node.metric(&format!(
        "herder_escalations_total{{result=\"{result}\",rule=\"web\",to=\"{to}\"}}"
    ))
}

impl Node {
    /// The kernel has `cgroup.kill`.
    pub(crate) fn has_kill(&self, path: &str) {
        fs::write(self.directory(path).join(KILL), "").unwrap();
    }

    /// What was written to it.
    pub(crate) fn killed(&self, path: &str) -> String {
        let text = fs::read_to_string(self.directory(path).join(KILL)).unwrap();
        text.trim().to_owned()
    }

    /// The thread that writes restarts does its only one.
    pub(crate) fn restart(&mut self) {
        let request = self.restarts.take_request().unwrap();
        self.restarted(request.write());
    }

    pub(crate) fn restarted(&mut self, restarted: Restarted) {
        self.core.take(Message::Restarted(restarted));
        self.turn();
    }

    /// How far the only container's escalation is.
    pub(crate) fn escalation(&mut self) -> EscalationState {
        let (answer, mut answered) = oneshot::channel();
        self.core.take(Message::States(StatesRequest { after: None, most: 9, answer }));
        let mut states = answered.try_recv().unwrap().states;
        assert_eq!(states.len(), 1, "{states:?}");
        states.remove(0).escalation.unwrap()
    }
}
