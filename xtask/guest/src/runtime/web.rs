//! The real agent with a rule for the pods `app=web`.

use crate::harness::agent::Agent;

/// A rule for the pods `app=web`.
pub const RULES: &str = "\
rules:
- name: web
  pods: {namespaces: [shop], selector: {matchLabels: {app: web}}}
  oomGroup: single-process
";

/// The real agent with a rule for the pods `app=web`.
pub fn agent() -> Agent {
    Agent::start_with(RULES, &["--kubernetes", "on", "--node-name", "node-1"])
}
