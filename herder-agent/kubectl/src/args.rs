//! The command line, with kubectl's own names for what kubectl has too.

use clap::{Args, Parser, Subcommand};
use herder_agent::cli::args::Output;
use std::{path::PathBuf, time::Duration};

/// Ask all Herder agents of a cluster at once, through the API server: no port has to be open.
/// Ends with 0 if each agent answered, with 3 if some did not, and with 1 if none did.
#[derive(Debug, Parser)]
#[command(name = "kubectl-herder", bin_name = "kubectl herder", version)]
pub(crate) struct Cli {
    /// What to ask.
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Show the last OOM kills of the cluster: who, where, how big, did the container survive.
    Kills(KillsArgs),
    /// Show the containers that a rule matches, with their memory.oom.group and, where it is not
    /// enforceable, the reason.
    Containers(ContainersArgs),
    /// Show which containers have most OOM kills among those that the agents keep.
    Top(TopArgs),
}

/// Which cluster, which namespaces, and how to print it.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// All namespaces, and what belongs to no pod.
    #[arg(long, short = 'A')]
    pub(crate) all_namespaces: bool,
    /// Pods of this namespace; without it, of the context's.
    #[arg(long, short, value_name = "NAME", conflicts_with = "all_namespaces")]
    pub(crate) namespace: Option<String>,
    /// The kubeconfig, instead of that of KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Where the agents are.
    #[arg(long, value_name = "NAME", default_value = "herder-system")]
    pub(crate) agents_namespace: String,
    /// Labels of the agents' pods.
    #[arg(long, value_name = "SELECTOR", default_value = "app.kubernetes.io/name=herder")]
    pub(crate) agents_selector: String,
    /// How long all of it may take, seconds, without --follow and without a program of the
    /// kubeconfig that gets credentials. One agent gets 5 of them.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// How to print it.
    #[arg(long, short, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

/// Flags of `kills`.
#[derive(Debug, Args)]
pub(crate) struct KillsArgs {
    /// Which cluster, and how.
    #[command(flatten)]
    pub(crate) common: Common,
    /// Go on and print each new one, until interrupted.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// How many of the last to print; each agent keeps 1,000.
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub(crate) limit: usize,
}

/// Flags of `containers`.
#[derive(Debug, Args)]
pub(crate) struct ContainersArgs {
    /// Which cluster, and how.
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Flags of `top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Which cluster, and how.
    #[command(flatten)]
    pub(crate) common: Common,
    /// How many containers to print.
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub(crate) limit: usize,
}

impl Common {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_flag_has_a_row_in_its_document() {
        let text = include_str!("../../../docs/kubectl.md");
        for command in Cli::command().get_subcommands() {
            for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
                assert!(text.contains(&format!("`--{flag}`")), "docs/kubectl.md lacks --{flag}");
            }
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        for line in [&["kills", "-A", "-n", "x"][..], &["top", "--timeout", "0"], &["tops"], &[]] {
            assert!(Cli::try_parse_from([&["kubectl-herder"], line].concat()).is_err(), "{line:?}");
        }
    }
}
