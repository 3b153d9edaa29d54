//! Whether the agent would accept rules that keep the arguments of victims, and could read them: the
//! programs that it takes are attached for a moment.

use super::{Finding, Outcome, finding, ok, warn};
use crate::{
    cli::args::CheckArgs,
    kernel::probe::{ArgumentsProbe, KernelFacts},
};
use herder_agent_ebpf::layout::ABSENT;
use herder_model::rules::parse::Config;
use std::path::Path;

/// Whether a file of `--web-config-file` makes clients authenticate themselves, or what is wrong
/// with it.
pub type Authenticates<'a> = &'a dyn Fn(&Path) -> Result<bool, String>;

/// Nothing, if no rule asks for them.
pub(super) fn arguments(
    args: &CheckArgs,
    config: &Config,
    facts: Option<&KernelFacts>,
    authenticates: Authenticates<'_>,
) -> Option<(&'static str, Finding)> {
    config.arguments_at.is_some().then(|| {
        let found = found(args, config, facts, authenticates);
        ("victimArguments", found)
    })
}

fn found(
    args: &CheckArgs,
    config: &Config,
    facts: Option<&KernelFacts>,
    authenticates: Authenticates<'_>,
) -> Finding {
    let asked = args.port.web_config_file.as_deref().map(authenticates).transpose();
    let asked = match asked {
        Ok(asked) => asked.unwrap_or_default(),
        Err(error) => return finding(Outcome::Fail, error, ""),
    };
    let name = args.node.config.as_deref().unwrap_or(Path::new("")).display().to_string();
    if let Err(error) = config.clone().where_asked(asked || args.port.is_local(), &name) {
        let mend = "if the agent has --web-config-file or --listen, give check the same";
        return finding(Outcome::Fail, error.to_string(), mend);
    }
    let Some(facts) = facts.filter(|facts| facts.layout.mm_arg_start != ABSENT) else {
        return warn("no arguments are read: it takes the kernel's BTF", "see BTF");
    };
    // They are detached again when it is dropped.
    if let Err(error) = ArgumentsProbe::new(*facts).set(true) {
        return warn(format!("no arguments are read: {error}"), "see eBPF programs");
    }
    let who = if asked { "clients authenticate themselves" } else { "the port is a loopback one" };
    ok(format!("the arguments of victims are read and shown; {who}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Task};
    use clap::Parser;

    fn check(
        rules: &str,
        flags: &[&str],
        asks: &Result<bool, String>,
    ) -> Option<(Outcome, String)> {
        let cli = [&["herder-agent", "check", "--config", "r.yaml"][..], flags].concat();
        let Task::Check(args) = Cli::parse_from(cli).task else { panic!("check") };
        let config = Config::parse(rules, "r.yaml").unwrap();
        let found = arguments(&args, &config, None, &|_| asks.clone());
        found.map(|(_, Finding { outcome, found, .. })| (outcome, found))
    }

    #[test]
    fn it_says_what_the_agent_would() {
        let rules = "rules: [{name: a, cgroups: [/a], oomGroup: group, victimArguments: true}]";
        let (open, asks) = (Ok(false), Ok(true));
        assert_eq!(check("rules: []", &[], &open), None);
        let (outcome, found) = check(rules, &[], &open).unwrap();
        assert_eq!(outcome, Outcome::Fail);
        assert!(found.starts_with("r.yaml:1:68: ") && found.contains("loopback"), "{found}");
        let listen = ["--listen", "127.0.0.1:9469"];
        // Without BTF, as here.
        assert_eq!(check(rules, &listen, &open).unwrap().0, Outcome::Warn);
        let web = ["--web-config-file", "web.yaml"];
        assert_eq!(check(rules, &web, &open).unwrap().0, Outcome::Fail);
        assert_eq!(check(rules, &web, &asks).unwrap().0, Outcome::Warn);
        let broken = check(rules, &web, &Err("web.yaml:1:1: wrong".into())).unwrap();
        assert_eq!(broken, (Outcome::Fail, "web.yaml:1:1: wrong".into()));
    }
}
