//! How an agent that serves by TLS is reached, for every command that asks one.

use clap::Args;
use std::path::PathBuf;

/// Flags of a connection by TLS.
#[derive(Debug, Args)]
pub struct TlsArgs {
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
}
