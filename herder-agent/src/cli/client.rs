//! `herder-agent kills`, `explain`, `containers` and `self`: what an agent knows, for people at a terminal, and
//! for programs of a pod.
//!
//! They ask a running agent over HTTP and need no privilege. What they print comes
//! from outside, so control characters in it are escaped.

mod containers;
mod credentials;
pub mod events;
pub mod explain;
mod http;
pub mod kills;
pub mod own;
pub mod print;
pub mod table;
pub mod time;

use crate::cli::args::{ContainersArgs, ExplainArgs, KillsArgs, WhichKill};
use events::{Events, News};
use herder_model::{causes::Causes, kill::KEPT};
use http::Agent;
use hyper::header::HeaderValue;
use print::Printer;
use serde_json::Value;
use std::{
    future::Future,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};
use tokio::{runtime::Builder, time::sleep};

/// How long to wait before a cut stream is opened again.
const AGAIN: Duration = Duration::from_secs(2);

/// The same after a refusal.
const LATER: Duration = Duration::from_secs(5);

/// Kills that are asked for at once.
const PAGE: u64 = 100;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("--url {0}: not an address like http://127.0.0.1:9469 or https://NAME:9469")]
    Url(String),
    #[error("cannot ask {to}: {source}; does an agent run there, and is --url right?")]
    Connect { to: String, source: io::Error },
    #[error("{flag}: {why}")]
    Credentials { flag: &'static str, why: String },
    #[error("no TLS with {url}: {}; {}", Causes(source), tls_hint(source))]
    Tls { url: String, source: io::Error },
    #[error("the agent at {url} broke off: {}", Causes(source))]
    Broken { url: String, source: hyper::Error },
    #[error("the agent at {0} did not answer in time")]
    Slow(String),
    #[error("the agent at {url} sent more than {mebibytes} MiB at once, which no agent does")]
    Long { url: String, mebibytes: usize },
    #[error("the agent at {url} answered {status}: {body}{}", refusal_hint(*status))]
    Refused { url: String, status: u16, body: String },
    #[error("the agent at {url} did not answer with an agent's JSON: {source}")]
    Json { url: String, source: serde_json::Error },
    #[error(transparent)]
    Output(#[from] io::Error),
}

fn refusal_hint(status: u16) -> &'static str {
    if status == 401 { " Give --user and --password-file." } else { "" }
}

fn tls_hint(error: &io::Error) -> &'static str {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidMessage(_)) => "does the agent have TLS? else ask http://",
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            "give the authority that certified the agent with --ca-file"
        }
        Some(rustls::Error::InvalidCertificate(
            rustls::CertificateError::NotValidForName
            | rustls::CertificateError::NotValidForNameContext { .. },
        )) => "give a name that the certificate has with --tls-server-name",
        _ => "an agent may ask for a certificate: --cert-file and --key-file",
    }
}

pub fn kills(args: &KillsArgs) -> ExitCode {
    finished(async {
        let agent = Agent::of(&args.agent)?;
        let mut print = Printer::new(args.agent.output, false);
        let last = last(&agent, args.limit.into(), |kills| Ok(print.kills(kills)?)).await?;
        if args.follow {
            let stream = "/api/v1/kills/stream";
            follow(&agent, stream, last.to_string(), may_pass, &mut print).await?;
        }
        Ok(())
    })
}

/// Prints the last kills, so many at most, page by page: all at once would count against the memory
/// limit of the agent's own container. The newest comes last, where the eye is. Returns its number.
async fn last(
    agent: &Agent,
    limit: u64,
    mut print: impl FnMut(&[Value]) -> Result<(), ClientError>,
) -> Result<u64, ClientError> {
    let page = async |query: String| -> Result<Vec<Value>, ClientError> {
        agent.json(&agent.get(&format!("/api/v1/kills{query}")).await?)
    };
    let number = |kill: &Value| kill["id"].as_u64().unwrap_or(0);
    let newest = page("?limit=1".into()).await?.first().map_or(0, number);
    let kept = u64::try_from(KEPT).unwrap_or(u64::MAX);
    let mut after = newest.saturating_sub(limit.min(kept));
    if after == newest {
        print(&[])?;
    }
    while after < newest {
        let until = newest.min(after + PAGE);
        let mut kills = page(format!("?limit={}&before={}", until - after, until + 1)).await?;
        kills.reverse();
        print(&kills)?;
        after = until;
    }
    Ok(newest)
}

/// Prints one kill with its scene.
pub fn explain(args: &ExplainArgs) -> ExitCode {
    finished(async {
        let agent = Agent::of(&args.agent)?;
        let print = Printer::new(args.agent.output, false);
        let id = match args.kill {
            WhichKill::Number(id) => Some(id),
            WhichKill::Last => {
                let newest: Vec<Value> = agent.json(&agent.get("/api/v1/kills?limit=1").await?)?;
                newest.first().and_then(|kill| kill["id"].as_u64())
            }
        };
        match id {
            Some(id) => {
                let kill = agent.json(&agent.get(&format!("/api/v1/kills/{id}")).await?)?;
                Ok(print.explained(&kill)?)
            }
            None => Ok(writeln!(io::stderr(), "herder-agent: no kill yet")?),
        }
    })
}

pub fn containers(args: &ContainersArgs) -> ExitCode {
    finished(async {
        let agent = Agent::of(&args.agent)?;
        let text = agent.get("/api/v1/containers").await?;
        let containers: Vec<Value> = agent.json(&text)?;
        Ok(Printer::new(args.agent.output, false).containers(&containers)?)
    })
}

/// Whether it may be otherwise later. An agent that is started again is away for a while, and a proxy
/// says that by a status.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { status, .. } => matches!(status, 429 | 502 | 503 | 504),
        ClientError::Output(_) | ClientError::Json { .. } => false,
        _ => true,
    }
}

/// Prints kills as they come after the last one, until an error that does not pass.
async fn follow(
    agent: &Agent,
    stream: &str,
    mut last: String,
    may_pass: fn(&ClientError) -> bool,
    print: &mut Printer,
) -> Result<(), ClientError> {
    let mut noted = String::new();
    loop {
        let mut events = Events::after(last);
        let ended = each(agent, stream, &mut events, print).await;
        last = events.last;
        let mut wait = AGAIN;
        match ended {
            // The agent ended the stream, after an hour or with itself.
            Ok(()) => noted.clear(),
            Err(error) if !may_pass(&error) => return Err(error),
            Err(error) => {
                if matches!(error, ClientError::Refused { .. }) {
                    wait = LATER;
                }
                // It may be the same for long.
                let text = error.to_string();
                if noted != text {
                    note(&format!("{text}; trying again"))?;
                    noted = text;
                }
            }
        }
        sleep(wait).await;
    }
}

/// Each event of one stream, which goes on after the last one.
async fn each(
    agent: &Agent,
    stream: &str,
    events: &mut Events,
    print: &mut Printer,
) -> Result<(), ClientError> {
    let after = HeaderValue::from_str(&events.last).ok();
    let mut answer = agent.ask(stream, after).await?;
    while let Some(bytes) = answer.more().await? {
        events.push(&bytes);
        for news in events.by_ref() {
            match news.map_err(|source| agent.no_json(source))? {
                News::Kill(kill) => print.kills(&[kill])?,
                News::Settled(kill) => print.settled(&kill)?,
                News::Missed(missed) => {
                    note(&format!("{missed} kills came faster than they were read"))?;
                }
            }
        }
    }
    Ok(())
}

/// Something about the stream itself.
fn note(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "herder-agent: {text}")
}

fn finished(task: impl Future<Output = Result<(), ClientError>>) -> ExitCode {
    let result = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ClientError::Output)
        .and_then(|runtime| runtime.block_on(task));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // `herder-agent kills | head` is no failure.
        Err(ClientError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "herder-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests;
