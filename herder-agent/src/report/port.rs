//! What is counted and logged about the port: refused clients, and what it asks of clients.

use super::Reporter;
use std::error::Error;

/// Why a client of the port was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The handshake failed: another version, no certificate, or a wrong one.
    Handshake,
    /// Plain HTTP on a port with TLS.
    PlainHttp,
    /// No name and password.
    NoCredentials,
    /// A wrong name or password.
    WrongCredentials,
    /// Too many others are being checked.
    Busy,
}

impl Refused {
    /// All of them.
    pub const ALL: [Refused; 5] = [
        Refused::Handshake,
        Refused::PlainHttp,
        Refused::NoCredentials,
        Refused::WrongCredentials,
        Refused::Busy,
    ];

    /// The value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Handshake => "handshake",
            Refused::PlainHttp => "plain-http",
            Refused::NoCredentials => "no-credentials",
            Refused::WrongCredentials => "wrong-credentials",
            Refused::Busy => "busy",
        }
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
