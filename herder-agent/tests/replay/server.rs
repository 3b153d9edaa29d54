//! A server that answers each request with the next recording, whatever is
//! asked, and remembers what was asked.

use herder_agent::inside::kubernetes::client::{
    ApiServer, Failure, OnFailure, Times, connect_with,
};
use herder_model::{backoff::Pace, rules::parse::LogLevel};
use std::{
    path::Path,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tracing_subscriber::layer::SubscriberExt;

/// Ends every answer that is complete.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The server's answer to one request.
pub(crate) enum Reply {
    /// The recording, and then the end of the connection, as recorded.
    Whole(Vec<u8>),
    /// The recording, but the stream stays open instead of ending.
    Open(Vec<u8>),
    /// The recording, and after so long the end of the connection.
    Cut(Vec<u8>, Duration),
    /// Nothing: the connection is closed.
    Nothing,
    /// Nothing, to this request and all others for so long.
    Away(Duration),
}

/// A recording of `fixtures/k8s-wire`.
pub(crate) fn recorded(name: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/k8s-wire");
    std::fs::read(fixtures.join(format!("{name}.response.raw"))).unwrap()
}

pub(crate) fn whole(name: &str) -> Reply {
    Reply::Whole(recorded(name))
}

pub(crate) fn open(name: &str) -> Reply {
    Reply::Open(recorded(name))
}

/// The events of a recorded watch, a line each.
pub(crate) fn events(name: &str) -> Vec<String> {
    let raw = String::from_utf8(recorded(name)).unwrap();
    let (_, mut rest) = raw.split_once("\r\n\r\n").unwrap();
    let mut body = String::new();
    while let Some((size, chunk)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&chunk[..size]);
        rest = chunk[size..].trim_start_matches("\r\n");
    }
    body.lines().map(str::to_owned).collect()
}

/// A watch of these events that stays open; without its end it is cut after them.
pub(crate) fn watch_of(events: &[String]) -> Vec<u8> {
    let mut raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
        Transfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for event in events {
        raw.extend(format!("{:x}\r\n{event}\n\r\n", event.len() + 1).bytes());
    }
    raw
}

/// The answer of a server without the feature gate WatchList. Not recorded, but
/// put together from `validateWatchOptions()` and a recorded 422.
pub(crate) fn no_streaming_list() -> Reply {
    let body = concat!(
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
        r#""message":"ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: "#,
        r#"sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled","#,
        r#""reason":"Invalid","code":422}"#
    );
    let head = format!(
        "HTTP/1.1 422 Unprocessable Entity\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    Reply::Whole([head.as_bytes(), body.as_bytes()].concat())
}

/// An answer with this status and content type, whole in itself.
pub(crate) fn answer(status: &str, content_type: &str, body: &str) -> Reply {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Location: /login\r\nConnection: close\r\n\r\n"
    );
    Reply::Whole([head.as_bytes(), body.as_bytes()].concat())
}

/// Makes the same reply each time.
pub(crate) type MakeReply = Box<dyn Fn() -> Reply>;

/// What comes with a status of success, or a redirect, and is no answer about this kind of
/// object.
pub(crate) fn no_answers(kind: &'static str) -> Vec<(&'static str, MakeReply)> {
    const PAGE: &str = "<!doctype html>\n<title>Sign in</title>\n\n<form>\n</form>\n";
    const JSON: &str = "application/json";
    let status = r#"{"kind":"Status","apiVersion":"v1","status":"Success","code":200}"#;
    let table: Vec<(_, &str, &str, String)> = vec![
        ("a page", "200 OK", "text/html; charset=utf-8", PAGE.into()),
        ("a page of no type", "200 OK", "", PAGE.into()),
        ("a page that claims to be JSON", "200 OK", JSON, PAGE.into()),
        ("a redirect", "302 Found", "text/html", PAGE.into()),
        ("a redirect with JSON", "307 Temporary Redirect", JSON, "{}".into()),
        ("nothing of another type", "204 No Content", "text/plain", String::new()),
        ("half of it", "200 OK", JSON, format!(r#"{{"kind":"{kind}","metadata":{{"#)),
        ("a number", "200 OK", JSON, "1\n".into()),
        ("nothing in it", "200 OK", JSON, "{}\n".into()),
        ("a Status", "200 OK", JSON, status.to_owned() + "\n"),
        (
            "another kind",
            "200 OK",
            JSON,
            r#"{"kind":"Node","metadata":{"resourceVersion":"1"},"items":[]}"#.into(),
        ),
        ("no text", "200 OK", JSON, "\u{0}\u{1}\n".into()),
        ("Protobuf", "200 OK", "application/vnd.kubernetes.protobuf", "k8s\u{0}".into()),
    ];
    let reply = |(what, status, content_type, body): (_, &'static str, &'static str, String)| {
        let reply = move || answer(status, content_type, &body);
        (what, Box::new(reply) as MakeReply)
    };
    table.into_iter().map(reply).collect()
}

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and target.
    pub(crate) line: String,
    pub(crate) content_type: String,
    pub(crate) body: String,
    pub(crate) at: Instant,
}

/// A running server and what its client did.
pub(crate) struct Server {
    pub(crate) api: ApiServer,
    asked: Arc<Mutex<Vec<Asked>>>,
    failures: Arc<Mutex<Vec<Failure>>>,
}

impl Server {
    /// Plays the replies in turn; further requests are never answered.
    pub(crate) async fn play(replies: Vec<Reply>) -> Server {
        let times = Times { pace: pace(), ..Times::default() };
        Server::play_with(times, replies).await
    }

    /// The same for a client with other times.
    pub(crate) async fn play_with(times: Times, replies: Vec<Reply>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(serve(listener, replies, asked.clone()));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let seen = failures.clone();
        let on_failure: OnFailure = Arc::new(move |failure| seen.lock().unwrap().push(failure));
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        Server { api: connect_with(config, times, on_failure).unwrap(), asked, failures }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn failures(&self) -> Vec<Failure> {
        self.failures.lock().unwrap().clone()
    }
}

/// Where only one subscriber lives, the thread that is the first to come to a line decides whether
/// that is ever logged, also one that has no subscriber (`Dispatchers::rebuilder()`, tracing-core
/// 0.1.36). This one lives on, so that no test is the only one that has another.
static ANOTHER: LazyLock<tracing::Dispatch> =
    LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));

/// What the agent logs on this thread while the guard lives.
pub(crate) fn logged() -> (Log, tracing::subscriber::DefaultGuard) {
    LazyLock::force(&ANOTHER);
    let log = Log::default();
    let writer = log.clone();
    let filter = herder_agent::cli::telemetry::filter(&LogLevel::default()).unwrap();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false);
    let lines = lines.with_writer(move || writer.clone());
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    (log, tracing::subscriber::set_default(subscriber))
}

/// Lines of a log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Those with this in them.
    pub(crate) fn lines(&self, part: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.lines("")).finish()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Real waits, only shorter.
pub(crate) fn pace() -> Pace {
    Pace { first: Duration::from_millis(1), longest: Duration::from_millis(8) }
}

async fn serve(listener: TcpListener, replies: Vec<Reply>, asked: Arc<Mutex<Vec<Asked>>>) {
    let mut replies = replies.into_iter();
    let mut kept = Vec::new();
    let mut away_until = Instant::now();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        if Instant::now() < away_until {
            continue;
        }
        let Some(request) = read_request(&mut stream).await else {
            continue;
        };
        asked.lock().unwrap().push(request);
        match replies.next() {
            Some(Reply::Whole(bytes)) => {
                send(&mut stream, &bytes).await;
                stream.shutdown().await.ok();
            }
            Some(Reply::Open(bytes)) => {
                let open = bytes.strip_suffix(LAST_CHUNK).unwrap_or(&bytes);
                send(&mut stream, open).await;
                kept.push(stream);
            }
            Some(Reply::Cut(bytes, after)) => {
                send(&mut stream, &bytes).await;
                tokio::spawn(async move {
                    sleep(after).await;
                    drop(stream);
                });
            }
            Some(Reply::Nothing) => drop(stream),
            Some(Reply::Away(time)) => away_until = Instant::now() + time,
            None => kept.push(stream),
        }
    }
}

/// In pieces that end within lines, within chunks, and within characters.
async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    for piece in bytes.chunks(1021) {
        if stream.write_all(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let header = |name: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_owned()).unwrap_or_default()
            };
            if body.len() >= header("content-length").parse().unwrap_or(0) {
                return Some(Asked {
                    line: head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned(),
                    content_type: header("content-type"),
                    body: body.to_owned(),
                    at: Instant::now(),
                });
            }
        }
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.ok()?;
        if count == 0 {
            return None;
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
}
