//! What the port asks of its clients, by the file of `--web-config-file`: TLS, certificates,
//! names and passwords. Without the file it asks for nothing.
//!
//! `/livez` and `/readyz` are for the kubelet, which has neither a certificate nor a password,
//! so they stay open. On a port with TLS they are answered without it too: a connection that does
//! not begin with a handshake is plain HTTP, for these two paths and a hint for all others.

#[cfg(test)]
pub(crate) mod authority;
mod certificates;
mod file;
mod passwords;
mod tls;

use super::answer::{Answer, text};
use crate::report::{InForce, Refused};
use file::{Settings, invalid};
use herder_model::rules::parse::{InvalidConfig, place};
use hyper::{
    HeaderMap, Request, StatusCode,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue,
        WWW_AUTHENTICATE,
    },
};
use passwords::{Checked, Passwords};
use rustls::ServerConfig;
use serde_saphyr::Location;
use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tls::{ClientAuth, Fault, Source, Texts, TlsSettings};

/// What is answered to everyone.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// What is in force. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Access(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    tls: Option<Arc<ServerConfig>>,
    client_auth: ClientAuth,
    passwords: Option<Arc<Passwords>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The file and those that it names, as they are.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessFiles {
    path: PathBuf,
    text: Result<String, String>,
    others: BTreeMap<PathBuf, Result<String, String>>,
}

#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("cannot read the file of --web-config-file, {path}: {why}")]
    Read { path: String, why: String },
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
    #[error(
        "{path} lets everyone ask, and a rule has `victimArguments`: keep basic_auth_users or RequireAndVerifyClientCert, or remove it from the rules first"
    )]
    Exposes { path: String },
    #[error("passwords cannot be checked: {0}")]
    Passwords(#[from] io::Error),
}

impl AccessFiles {
    /// Reads the files with `read_text`. A failure is reported later, when the settings are taken.
    pub fn read(path: &Path, read_text: impl Fn(&Path) -> io::Result<String>) -> Self {
        let text = read_text(path).map_err(|error| error.to_string());
        let settings = text.as_ref().ok().and_then(|text| Settings::parse(text, path).ok());
        let named = settings.and_then(|settings| settings.tls).map(|tls| {
            let TlsSettings { certificate, key, client_ca, .. } = tls;
            [Some(certificate), Some(key), client_ca]
        });
        let paths = named.into_iter().flatten().flatten().filter_map(|source| match source {
            Source::File(_, path) => Some(path),
            Source::Inline(..) => None,
        });
        let read = |path: PathBuf| {
            let text = read_text(&path).map_err(|error| error.to_string());
            (path, text)
        };
        AccessFiles { path: path.to_path_buf(), text, others: paths.map(read).collect() }
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [self.path.as_path()].into_iter().chain(self.others.keys().map(PathBuf::as_path))
    }

    /// What they ask for.
    pub fn take(&self) -> Result<Access, AccessError> {
        self.take_after(&Access::default())
    }

    /// What they ask for. Where the users are those of before, what is known of their logins stays
    /// known.
    pub fn take_after(&self, before: &Access) -> Result<Access, AccessError> {
        let Settings { tls, headers, users } = self.settings()?;
        let client_auth = tls.as_ref().map_or(ClientAuth::None, |tls| tls.client_auth);
        let tls = tls.map(|tls| self.tls(&tls)).transpose()?;
        let kept = before.0.passwords.as_ref().filter(|passwords| passwords.are_of(&users));
        let passwords = match kept {
            Some(passwords) => Some(passwords.clone()),
            None if users.is_empty() => None,
            None => Some(Arc::new(Passwords::start(&users)?)),
        };
        Ok(Access(Arc::new(Asked { tls: tls.map(Arc::new), client_auth, passwords, headers })))
    }

    /// Whether clients have to authenticate themselves, as far as the file alone shows.
    pub fn asks_who_it_is(&self) -> Result<bool, AccessError> {
        let Settings { tls, users, .. } = self.settings()?;
        Ok(!users.is_empty() || tls.is_some_and(|tls| tls.client_auth.proves()))
    }

    fn settings(&self) -> Result<Settings, AccessError> {
        let path = &self.path;
        let text = self.text.as_ref().map_err(|why| AccessError::Read {
            path: path.display().to_string(),
            why: why.clone(),
        })?;
        Ok(Settings::parse(text, path)?)
    }

    fn tls(&self, tls: &TlsSettings) -> Result<ServerConfig, InvalidConfig> {
        let wrong = |at: Location, why: String| invalid(&self.path, &place(at), why);
        let text = |source: &'_ Source| match source {
            Source::Inline(_, text) => Ok(text.clone()),
            Source::File(at, path) => match self.others.get(path) {
                Some(Ok(text)) => Ok(text.clone()),
                Some(Err(why)) => Err(wrong(*at, format!("cannot read {}: {why}", path.display()))),
                None => Err(wrong(*at, format!("{} was not read", path.display()))),
            },
        };
        let certificate = text(&tls.certificate)?;
        let key = text(&tls.key)?;
        let client_ca = tls.client_ca.as_ref().map(text).transpose()?;
        let texts = Texts { certificate: &certificate, key: &key, client_ca: client_ca.as_deref() };
        tls.build(&texts).map_err(|fault| {
            let (source, why) = match fault {
                Fault::Certificate(why) => (&tls.certificate, why),
                Fault::Key(why) => (&tls.key, why),
                Fault::ClientCa(why) => (tls.client_ca.as_ref().unwrap_or(&tls.certificate), why),
            };
            match source {
                Source::Inline(at, _) => wrong(*at, why),
                Source::File(at, path) => wrong(*at, format!("{}: {why}", path.display())),
            }
        })
    }
}

impl Access {
    /// What TLS needs, if the port speaks it.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.0.tls.clone()
    }

    /// Whether clients have to authenticate themselves: by a password, or by a certificate of an
    /// authority of the file. A certificate that is not verified proves nothing.
    pub fn asks_who_it_is(&self) -> bool {
        self.0.passwords.is_some() || self.0.client_auth.proves()
    }

    /// What this asks of clients.
    pub fn in_force(&self) -> InForce {
        InForce {
            tls: self.0.tls.is_some(),
            client_certificates: self.0.client_auth.word(),
            users: self.0.passwords.as_ref().map_or(0, |passwords| passwords.count()),
        }
    }

    /// Whether a connection is as this asks: by TLS, if the port speaks it. `encrypted_by` is what the
    /// connection's TLS handshake was made by, if there was one.
    pub(super) fn admit_connection(&self, encrypted_by: Option<&Access>) -> Result<(), Refused> {
        match encrypted_by {
            None if self.0.tls.is_some() => Err(Refused::PlainHttp),
            // Its certificate may be one that is not admitted any more.
            Some(by) if !Arc::ptr_eq(&by.0, &self.0) => Err(Refused::Changed),
            _ => Ok(()),
        }
    }

    /// Lets a request in, or says why not. `encrypted_by` is what the connection's TLS handshake
    /// was made by, if there was one.
    pub(super) async fn admit<B>(
        &self,
        request: &Request<B>,
        encrypted_by: Option<&Access>,
        address: IpAddr,
    ) -> Result<(), Refused> {
        if OPEN.contains(&request.uri().path()) {
            return Ok(());
        }
        self.admit_connection(encrypted_by)?;
        let Some(passwords) = &self.0.passwords else { return Ok(()) };
        let Some(header) = credentials(request.headers()) else {
            return Err(Refused::NoCredentials);
        };
        match passwords.check(header.as_bytes(), address).await {
            Checked::Right => Ok(()),
            Checked::Wrong => Err(Refused::WrongCredentials),
            Checked::Busy => Err(Refused::Busy),
            Checked::TooOften => Err(Refused::TooOften),
        }
    }

    /// Adds the headers that every answer has. A policy of the page's own stays beside another:
    /// a browser keeps to both.
    pub(super) fn dress(&self, answer: &mut Answer) {
        for (name, value) in &self.0.headers {
            if name == CONTENT_SECURITY_POLICY {
                answer.headers_mut().append(name, value.clone());
            } else {
                answer.headers_mut().insert(name, value.clone());
            }
        }
    }
}

/// The answer to a request that is not let in.
pub(super) fn refusal(refused: Refused) -> Answer {
    let (status, why) = match refused {
        Refused::Handshake | Refused::PlainHttp => (
            StatusCode::BAD_REQUEST,
            "This port speaks TLS: ask https://. Without TLS it answers /livez and /readyz only.\n",
        ),
        Refused::NoCredentials => (StatusCode::UNAUTHORIZED, "A name and a password are needed.\n"),
        Refused::WrongCredentials => {
            (StatusCode::UNAUTHORIZED, "The name or the password is wrong.\n")
        }
        Refused::Busy => {
            (StatusCode::SERVICE_UNAVAILABLE, "Too many passwords are being checked.\n")
        }
        Refused::TooOften => {
            (StatusCode::TOO_MANY_REQUESTS, "Too many wrong passwords came from this address.\n")
        }
        Refused::Changed => (
            StatusCode::SERVICE_UNAVAILABLE,
            "What this port asks of clients has changed: connect again.\n",
        ),
    };
    let mut answer = text(status, why.into());
    let headers = answer.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"herder\", charset=\"UTF-8\"");
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The one header; of several it is not known which counts.
fn credentials(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    all.next().filter(|_| all.next().is_none())
}

#[cfg(test)]
mod tests;
