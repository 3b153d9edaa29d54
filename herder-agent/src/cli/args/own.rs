//! The flags of `self`, which runs in a pod of anybody's and has no agent of its own.

use super::{AgentArgs, Output, TlsArgs};
use clap::Args;

/// Flags of `self`.
#[derive(Debug, Args)]
pub struct SelfArgs {
    /// Address of the agent's port for pods. The default is the Service of the component `self`:
    /// it leads to the agent of the same node.
    #[arg(
        long,
        env = "HERDER_URL",
        value_name = "URL",
        default_value = "http://herder-self.herder-system.svc:9470"
    )]
    pub url: String,
    /// How to reach it by TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Output format.
    #[arg(long, short, env = "HERDER_OUTPUT", value_enum, default_value = "table")]
    pub output: Output,
    /// Keep running, and print each new kill.
    #[arg(long, short)]
    pub follow: bool,
    /// How many of the last kills to print; the agent keeps 1,000 of the node.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 20)]
    pub limit: u32,
}

impl From<SelfArgs> for AgentArgs {
    /// The port for pods asks for no password.
    fn from(args: SelfArgs) -> Self {
        AgentArgs {
            url: args.url,
            tls: args.tls,
            user: None,
            password_file: None,
            output: args.output,
        }
    }
}
