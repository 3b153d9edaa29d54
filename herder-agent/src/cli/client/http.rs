//! The one server that is ever asked: an agent, over HTTP/1.1 without TLS.

use super::ClientError;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Uri,
    body::Incoming,
    client::conn::http1,
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::{net::TcpStream, time::timeout};

/// How long connecting, and a whole answer that is no stream, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream says something every 15 seconds; this long after that it is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// Longest line of a stream; a kill has a few KiB.
const LONGEST_LINE: usize = 1 << 20;

pub(super) struct Agent {
    url: String,
    authority: String,
    /// What a proxy has before the agent's own paths, without a slash at its end.
    below: String,
}

/// The body of an answer.
pub(super) struct Answer {
    url: String,
    body: Incoming,
    read: Vec<u8>,
}

impl Agent {
    pub(super) fn new(url: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let plain = uri.scheme_str() == Some("http") && uri.query().is_none();
        let host = uri.host().filter(|_| plain).ok_or_else(wrong)?;
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(9469));
        let below = uri.path().trim_end_matches('/').to_owned();
        Ok(Agent { url: url.to_owned(), authority, below })
    }

    /// The text of an answer.
    pub(super) async fn get(&self, path: &str) -> Result<String, ClientError> {
        let all = async { self.ask(path, None).await?.all().await };
        timeout(PATIENCE, all).await.map_err(|_| ClientError::Slow(self.url.clone()))?
    }

    /// The JSON of a text that the agent sent.
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        text: &str,
    ) -> Result<T, ClientError> {
        serde_json::from_str(text)
            .map_err(|source| ClientError::Json { url: self.url.clone(), source })
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
            stream.map_err(|source| ClientError::Connect { url: self.url.clone(), source })?;
        let broken = |source| ClientError::Broken { url: self.url.clone(), source };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Its errors are also those of the body.
        tokio::spawn(connection);
        let mut request = Request::new(Empty::<Bytes>::new());
        // `Agent::new` has parsed authority and path, and the rest is ours.
        let path = format!("{}{path}", self.below);
        *request.uri_mut() = path.parse().map_err(|_| ClientError::Url(self.url.clone()))?;
        let host = HeaderValue::from_str(&self.authority);
        request.headers_mut().insert(HOST, host.map_err(|_| ClientError::Url(self.url.clone()))?);
        if let Some(last) = last_event {
            request.headers_mut().insert("last-event-id", last);
        }
        let answer = timeout(PATIENCE, sender.send_request(request)).await.map_err(slow)?;
        let answer = answer.map_err(broken)?;
        let status = answer.status();
        let answer = Answer { url: self.url.clone(), body: answer.into_body(), read: Vec::new() };
        if status.is_success() {
            return Ok(answer);
        }
        let url = self.url.clone();
        let body = answer.all().await?.escape_debug().to_string();
        Err(ClientError::Refused { url, status: status.as_u16(), body })
    }
}

impl Answer {
    /// All of it, as text.
    async fn all(mut self) -> Result<String, ClientError> {
        while self.more().await? {}
        Ok(String::from_utf8_lossy(&self.read).into_owned())
    }

    /// The next line of a stream, without its end; none at the end.
    pub(super) async fn line(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            if self.read.len() > LONGEST_LINE || !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Reads some more; tells whether there was any.
    async fn more(&mut self) -> Result<bool, ClientError> {
        let frame = timeout(SILENCE, self.body.frame()).await;
        let frame = frame.map_err(|_| ClientError::Slow(self.url.clone()))?;
        let Some(frame) = frame else { return Ok(false) };
        let frame =
            frame.map_err(|source| ClientError::Broken { url: self.url.clone(), source })?;
        if let Some(data) = frame.data_ref() {
            self.read.extend_from_slice(data);
        }
        Ok(true)
    }
}
