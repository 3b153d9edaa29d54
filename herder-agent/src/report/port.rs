//! What is counted and logged about the port: refused clients, and what it asks of clients.

use super::Reporter;
use std::error::Error;

/// What the port asks of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// It speaks TLS.
    pub tls: bool,
    /// Which certificates it asks for, in the words of the file.
    pub client_certificates: &'static str,
    /// Whose passwords open it; without any it asks for none.
    pub users: usize,
}

herder_model::labels! {
    /// Why a client of the port was not let in.
    pub enum Refused {
        /// The handshake failed: another version, no certificate, or a wrong one.
        Handshake = "handshake",
        /// Plain HTTP on a port with TLS.
        PlainHttp = "plain-http",
        /// No name and password.
        NoCredentials = "no-credentials",
        /// A wrong name or password.
        WrongCredentials = "wrong-credentials",
        /// The checks of others take too long.
        Busy = "busy",
        /// Too many handshakes or wrong passwords came from its address.
        TooOften = "too-often",
        /// The connection was made by what is no longer in force.
        Changed = "changed",
    }
}

impl Reporter {
    /// The agent has taken the file of `--web-config-file`, and follows it.
    pub fn access_begins(&self) {
        self.metrics.families.access_last_successful.set([], 1);
    }

    /// The file of `--web-config-file`, or one that it names, was read again.
    pub fn access_reload(&self, taken: Result<InForce, &dyn Error>) {
        match taken {
            Ok(InForce { tls, client_certificates, users }) => {
                tracing::info!(
                    tls,
                    client_certificates,
                    users,
                    "The changed web configuration is in force."
                );
            }
            Err(error) => {
                tracing::error!(%error, "The changed web configuration was rejected; the previous one stays in force.");
            }
        }
        let families = &self.metrics.families;
        let result = if taken.is_ok() { "ok" } else { "error" };
        families.access_reloads.add([result], 1);
        families.access_last_successful.set([], taken.is_ok().into());
    }

    /// A client of the port was not let in.
    pub fn refused(&self, refused: Refused) {
        self.metrics.families.refused.add([refused.as_str()], 1);
    }
}
