//! Whether this process could protect an init, where a rule asks for it. Nothing is written, but the
//! programs that it takes are attached for a moment.

use super::{Finding, ok, warn};
use crate::{
    cli::args::NodeArgs,
    kernel::{
        host_proc::HostProc,
        probe::{KernelFacts, forks::ForkLoader},
        process::has,
    },
};
use herder_model::rules::parse::Config;
use rustix::thread::CapabilitySet;

/// Nothing, if no rule asks for it.
pub(super) fn protection(
    args: &NodeArgs,
    config: &Config,
    facts: Option<&KernelFacts>,
) -> Option<(&'static str, Finding)> {
    config.rules.iter().any(|rule| rule.protect_init).then(|| ("protectInit", found(args, facts)))
}

fn found(args: &NodeArgs, facts: Option<&KernelFacts>) -> Finding {
    let Some(facts) = facts.filter(|facts| facts.functions.out_of_memory.is_some()) else {
        return warn("no init is protected: it takes the kernel's BTF", "see BTF");
    };
    // They are detached again when it is dropped.
    if let Err(error) = ForkLoader::new(*facts).attach() {
        return warn(format!("no init is protected: {error}"), "see eBPF programs");
    }
    match HostProc::open(&args.proc_root) {
        Err(error) => warn(
            format!("no init is protected: {error}"),
            "in a cluster add the component protect-init (chart: protectInit.enabled), on a host the drop-in protect-init.conf; or remove protectInit from the rules",
        ),
        Ok(_) if !has(CapabilitySet::DAC_OVERRIDE) => warn(
            "CAP_DAC_OVERRIDE is missing: inits of other users than root are not protected, nor inits that start a process of another user",
            "grant it, if there are such containers",
        ),
        Ok(_) => ok(format!(
            "{} is the node's, and a score can be lowered; run needs --state-file, too",
            args.proc_root.display()
        )),
    }
}
