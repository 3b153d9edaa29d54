//! What is counted and logged about the port: refused clients, and what it asks of clients.

use super::Reporter;
use std::error::Error;

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
        /// Too many others are being checked.
        Busy = "busy",
    }
}

impl Reporter {
    /// The file of `--web-config-file`, or one that it names, was read again.
    pub fn access_reload(&self, error: Option<&dyn Error>) {
        match error {
            None => tracing::info!("The changed web configuration is in force."),
            Some(error) => {
                tracing::error!(%error, "The changed web configuration was rejected; the previous one stays in force.");
            }
        }
        self.metrics.access_reload(error.is_none());
    }

    /// A client of the port was not let in.
    pub fn refused(&self, refused: Refused) {
        self.metrics.refused(refused);
    }
}
