//! The agent as a plugin of the runtime, and what it answered.

use crate::{
    harness::{agent::Agent, parameter::parameter},
    runtime::{
        cri::Setup,
        trace::{Trace, What},
        web::RULES,
    },
};

pub fn agent(nri: &str) -> Agent {
    Agent::start_with(RULES, &["--kubernetes", "off", "--nri", nri])
}

pub fn is_connected(agent: &Agent) -> bool {
    agent.metric("herder_nri_connected") == 1.0
}

pub fn answers(agent: &Agent, result: &str) -> f64 {
    agent.metric(&format!("herder_nri_adjustments_total{{result=\"{result}\"}}"))
}

/// Whether this suite's containerd has NRI without being configured so.
pub fn by_default() -> bool {
    parameter("suite").as_deref() != Some("trixie")
}

pub fn with_nri(systemd: bool) -> Setup {
    Setup { nri: !by_default(), ..Setup::new(systemd) }
}

/// How often 1 was written to such cgroups.
pub fn ones(trace: &Trace, is_one: impl Fn(u64) -> bool) -> usize {
    let one = |what: &What| matches!(what, What::Write { cgroup, value } if value == "1" && is_one(*cgroup));
    trace.seen().iter().filter(|seen| one(&seen.what)).count()
}
