//! The one server that is ever asked: an agent, over HTTP/1.1, with or without TLS.

use super::{
    ClientError,
    credentials::{Tls, authorization},
};
use crate::cli::args::AgentArgs;
use bytes::Bytes;
use herder_model::causes::chain;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Uri,
    body::Incoming,
    client::conn::http1,
    header::{AUTHORIZATION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use std::{
    io::{self, Write},
    net::IpAddr,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

/// How long connecting, and a whole answer that is no stream, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream says something every 15 seconds; this long after that it is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// Longest answer that is no stream, MiB. An agent has at most 4,096 containers, of some KiB each, and
/// is asked for 100 kills at once.
const LONGEST: usize = 64;

pub(super) struct Agent {
    url: String,
    authority: String,
    /// What a proxy has before the agent's own paths, without a slash at its end.
    below: String,
    tls: Option<Tls>,
    authorization: Option<HeaderValue>,
}

pub(super) struct Answer {
    url: String,
    body: Incoming,
}

impl Agent {
    pub(super) fn of(args: &AgentArgs) -> Result<Self, ClientError> {
        let url = &args.url;
        let wrong = || ClientError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|_| uri.query().is_none()).ok_or_else(wrong)?;
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some(Tls::of(args, host)?),
            _ => return Err(wrong()),
        };
        let authority = format!("{host}:{}", port(&uri));
        let below = uri.path().trim_end_matches('/').to_owned();
        let authorization = authorization(args)?;
        if authorization.is_some() && tls.is_none() && !is_this_machine(host) {
            // Without a standard error there is no reader either.
            let _ = writeln!(
                io::stderr(),
                "herder-agent: the password crosses the network in clear to {host}; use https:// if the agent has TLS"
            );
        }
        Ok(Agent { url: url.to_owned(), authority, below, tls, authorization })
    }

    pub(super) async fn get(&self, path: &str) -> Result<String, ClientError> {
        let all = async { self.ask(path, None).await?.all().await };
        timeout(PATIENCE, all).await.map_err(|_| ClientError::Slow(self.url.clone()))?
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        text: &str,
    ) -> Result<T, ClientError> {
        serde_json::from_str(text).map_err(|source| self.no_json(source))
    }

    pub(super) fn no_json(&self, source: serde_json::Error) -> ClientError {
        ClientError::Json { url: self.url.clone(), source }
    }

    /// Asks, and gives the answer as soon as its head is there.
    pub(super) async fn ask(
        &self,
        path: &str,
        last_event: Option<HeaderValue>,
    ) -> Result<Answer, ClientError> {
        let slow = |_| ClientError::Slow(self.url.clone());
        let connect = TcpStream::connect(&self.authority);
        let stream = timeout(PATIENCE, connect).await.map_err(slow)?;
        let stream =
            stream.map_err(|source| ClientError::Connect { to: self.authority.clone(), source })?;
        let Some(tls) = &self.tls else { return self.ask_over(stream, path, last_event).await };
        let connected = tls.connector.connect(tls.name.clone(), stream);
        let stream = timeout(PATIENCE, connected).await.map_err(slow)?;
        let stream = stream.map_err(|source| self.no_tls(source))?;
        self.ask_over(stream, path, last_event).await
    }

    /// With TLS 1.3 a client learns only now that its certificate is not the right one.
    fn broken(&self, source: hyper::Error) -> ClientError {
        let of_tls = chain(&source).find_map(|cause| {
            let cause = cause.downcast_ref::<io::Error>()?.get_ref()?;
            cause.downcast_ref::<rustls::Error>()
        });
        match of_tls {
            Some(error) => self.no_tls(io::Error::other(error.clone())),
            None => ClientError::Broken { url: self.url.clone(), source },
        }
    }

    fn no_tls(&self, source: io::Error) -> ClientError {
        ClientError::Tls { url: self.url.clone(), source }
    }

    async fn ask_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        path: &str,
        last_event: Option<HeaderValue>,
    ) -> Result<Answer, ClientError> {
        let slow = |_| ClientError::Slow(self.url.clone());
        let broken = |source| self.broken(source);
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Its errors are also those of the body.
        tokio::spawn(connection);
        let mut request = Request::new(Empty::<Bytes>::new());
        // `Agent::of` has parsed authority and path, and the rest is ours.
        let path = format!("{}{path}", self.below);
        *request.uri_mut() = path.parse().map_err(|_| ClientError::Url(self.url.clone()))?;
        let host = HeaderValue::from_str(&self.authority);
        request.headers_mut().insert(HOST, host.map_err(|_| ClientError::Url(self.url.clone()))?);
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(last) = last_event {
            request.headers_mut().insert("last-event-id", last);
        }
        let answer = timeout(PATIENCE, sender.send_request(request)).await.map_err(slow)?;
        let answer = answer.map_err(broken)?;
        let status = answer.status();
        let answer = Answer { url: self.url.clone(), body: answer.into_body() };
        if status.is_success() {
            return Ok(answer);
        }
        let url = self.url.clone();
        let body = answer.all().await?.trim_end().escape_debug().to_string();
        Err(ClientError::Refused { url, status: status.as_u16(), body })
    }
}

/// As in every URL, as that of an ingress before an agent.
fn port(uri: &Uri) -> u16 {
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    uri.port_u16().unwrap_or(usual)
}

/// Whether what is sent to a host stays on this machine.
fn is_this_machine(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.trim_start_matches('[').trim_end_matches(']').parse();
    // Names below are this machine's, too (RFC 6761, 6.3).
    let is_name =
        host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost");
    address.map_or(is_name, |address| address.to_canonical().is_loopback())
}

impl Answer {
    /// All of it, as text.
    async fn all(mut self) -> Result<String, ClientError> {
        let mut read = Vec::new();
        while let Some(bytes) = self.more().await? {
            read.extend_from_slice(&bytes);
            if read.len() > LONGEST << 20 {
                return Err(ClientError::Long { url: self.url, mebibytes: LONGEST });
            }
        }
        Ok(String::from_utf8_lossy(&read).into_owned())
    }

    /// What comes next; none at the end.
    pub(super) async fn more(&mut self) -> Result<Option<Bytes>, ClientError> {
        let frame = timeout(SILENCE, self.body.frame()).await;
        let Some(frame) = frame.map_err(|_| ClientError::Slow(self.url.clone()))? else {
            return Ok(None);
        };
        let frame =
            frame.map_err(|source| ClientError::Broken { url: self.url.clone(), source })?;
        Ok(Some(frame.into_data().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::{is_this_machine, port};

    #[test]
    fn a_url_without_a_port_has_the_usual_one() {
        let table = [("http://node:9469", 9469), ("http://node", 80), ("https://apps/herder", 443)];
        for (url, expected) in table {
            assert_eq!(port(&url.parse().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn what_stays_on_this_machine() {
        for host in ["127.0.0.1", "127.8.9.10", "[::1]", "localhost", "LOCALHOST", "a.localhost"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["10.0.0.1", "0.0.0.0", "[::]", "[fe80::1]", "node-1", "localhost.example"] {
            assert!(!is_this_machine(host), "{host}");
        }
        assert!(is_this_machine("[::ffff:127.0.0.1]"));
    }
}
