//! Whether this process could protect an init, where a rule asks for it. Nothing is written.

use super::{Finding, Outcome, finding};
use crate::{
    cli::args::NodeArgs,
    kernel::{host_proc::HostProc, probe::KernelFacts},
};
use herder_model::rules::parse::Config;
use rustix::thread::CapabilitySet;

const WHAT: &str = "protectInit";

/// Nothing, if no rule asks for it.
pub(super) fn protection(
    args: &NodeArgs,
    config: &Config,
    facts: Option<&KernelFacts>,
) -> Option<Finding> {
    let rules = config.rules.iter().filter(|rule| rule.protect_init).count();
    if rules == 0 {
        return None;
    }
    if facts.and_then(|facts| facts.functions.out_of_memory).is_none() {
        return Some(finding(
            WHAT,
            Outcome::Warn,
            "no init is protected: it takes the kernel's BTF",
            "see BTF",
        ));
    }
    Some(match HostProc::open(&args.proc_root) {
        Err(error) => finding(
            WHAT,
            Outcome::Warn,
            format!("no init is protected: {error}"),
            "in a cluster add the component protect-init (chart: protectInit.enabled), on a host the drop-in protect-init.conf; or remove protectInit from the rules",
        ),
        Ok(_) if !overrides() => finding(
            WHAT,
            Outcome::Warn,
            "CAP_DAC_OVERRIDE is missing: inits of other users than root are not protected",
            "grant it, if there are such containers",
        ),
        Ok(_) => finding(
            WHAT,
            Outcome::Ok,
            format!(
                "{} is the node's, and a score can be lowered; run needs --state-file, too",
                args.proc_root.display()
            ),
            "",
        ),
    })
}

fn overrides() -> bool {
    let sets = rustix::thread::capabilities(None);
    sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::DAC_OVERRIDE))
}
