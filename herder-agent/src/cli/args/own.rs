//! The flags of `self`, which runs in a pod of anybody's and has no agent of its own.

use super::{AgentArgs, Output};
use clap::Args;
use std::path::PathBuf;

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
    /// PEM file of the authorities that may certify an agent with https://. Default: those of
    /// the system.
    #[arg(long, env = "HERDER_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Name in the agent's certificate, if it differs from the address.
    #[arg(long, env = "HERDER_TLS_SERVER_NAME", value_name = "NAME")]
    pub tls_server_name: Option<String>,
    /// PEM file of the client certificate.
    #[arg(long, env = "HERDER_CERT_FILE", value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// PEM file of the key of the client certificate.
    #[arg(long, env = "HERDER_KEY_FILE", value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
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
            ca_file: args.ca_file,
            tls_server_name: args.tls_server_name,
            cert_file: args.cert_file,
            key_file: args.key_file,
            user: None,
            password_file: None,
            output: args.output,
        }
    }
}
