//! `herder-agent kills` and `herder-agent containers`: what an agent knows, for
//! people at a terminal.
//!
//! They ask a running agent over HTTP and need no privilege. What they print comes
//! from outside, so control characters in it are escaped.

pub mod containers;
mod credentials;
mod http;
pub mod kills;
pub mod table;
pub mod time;

use crate::cli::{
    args::{ContainersArgs, KillsArgs, Output},
    telemetry::colours,
};
use herder_model::{causes::Causes, kill::KEPT};
use http::{Agent, Answer};
use hyper::header::HeaderValue;
use serde_json::Value;
use std::{
    future::Future,
    io::{self, Write},
    process::ExitCode,
    time::{Duration, SystemTime},
};
use table::json;
use tokio::runtime::Builder;

/// How long to wait before a cut stream is opened again.
const AGAIN: Duration = Duration::from_secs(2);

/// Kills that are asked for at once.
const PAGE: u64 = 100;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("--url {0}: not an address like http://127.0.0.1:9469 or https://NAME:9469")]
    Url(String),
    #[error("cannot ask {url}: {source}; does an agent run there, and is --url right?")]
    Connect { url: String, source: io::Error },
    #[error("{flag}: {why}")]
    Credentials { flag: &'static str, why: String },
    #[error("no TLS with {url}: {}; {}", Causes(source), tls_hint(source))]
    Tls { url: String, source: io::Error },
    #[error("the agent at {url} broke off: {}", Causes(source))]
    Broken { url: String, source: hyper::Error },
    #[error("the agent at {0} did not answer in time")]
    Slow(String),
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
        let mut print = Printer::new(args.agent.output);
        let last = last(&agent, args.limit.into(), |kills| print.kills(kills)).await?;
        if args.follow {
            follow(&agent, last, &mut print).await?;
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

pub fn containers(args: &ContainersArgs) -> ExitCode {
    finished(async {
        let agent = Agent::of(&args.agent)?;
        let text = agent.get("/api/v1/containers").await?;
        let containers: Vec<Value> = agent.json(&text)?;
        Printer::new(args.agent.output).containers(&containers)
    })
}

/// Prints kills as they come, for ever. An agent that goes away comes back.
async fn follow(agent: &Agent, mut last: u64, print: &mut Printer) -> Result<(), ClientError> {
    loop {
        let id = HeaderValue::from(last);
        let broken = match agent.ask("/api/v1/kills/stream", Some(id)).await {
            Ok(mut answer) => each(&mut answer, agent, &mut last, print).await,
            Err(error @ ClientError::Refused { .. }) => return Err(error),
            Err(error) => Err(error),
        };
        match broken {
            // The agent ended the stream, after an hour or with itself.
            Ok(()) => {}
            Err(error @ (ClientError::Output(_) | ClientError::Json { .. })) => return Err(error),
            Err(error) => print.note(&format!("{error}; trying again"))?,
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Each event of one stream.
async fn each(
    answer: &mut Answer,
    agent: &Agent,
    last: &mut u64,
    print: &mut Printer,
) -> Result<(), ClientError> {
    let mut event = String::new();
    while let Some(line) = answer.line().await? {
        if let Some(name) = line.strip_prefix("event: ") {
            name.clone_into(&mut event);
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = agent.json(data)?;
            if event == "settled" && ended(&data) {
                // The line that was printed at the kill could not say so.
                print.kills(std::slice::from_ref(&data))?;
            } else if event == "kill" {
                *last = data.get("id").and_then(Value::as_u64).unwrap_or(*last);
                print.kills(std::slice::from_ref(&data))?;
            } else if event == "missed" {
                let missed = data.get("missed").and_then(Value::as_u64).unwrap_or(0);
                print.note(&format!("{missed} kills came faster than they were read"))?;
            }
        }
    }
    Ok(())
}

/// Whether it is now known that a container ended after a kill that it seemed to survive.
pub fn ended(kill: &Value) -> bool {
    kill["kind"] == "subprocess" && kill["survived"] == false
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

/// Standard output in the chosen format.
struct Printer {
    output: Output,
    colours: bool,
    table: kills::Kills,
}

impl Printer {
    fn new(output: Output) -> Self {
        let colours = colours();
        Printer { output, colours, table: kills::Kills::default() }
    }

    /// Kills, oldest first.
    fn kills(&mut self, kills: &[Value]) -> Result<(), ClientError> {
        let text = match self.output {
            Output::Json => json(kills),
            Output::Table => self.table.more(kills, SystemTime::now(), self.colours),
        };
        print(&text)
    }

    fn containers(&self, containers: &[Value]) -> Result<(), ClientError> {
        print(&match self.output {
            Output::Json => json(containers),
            Output::Table => containers::table(containers, self.colours, false),
        })
    }

    /// Something about the stream itself.
    fn note(&self, text: &str) -> Result<(), ClientError> {
        Ok(writeln!(io::stderr(), "herder-agent: {text}")?)
    }
}

fn print(text: &str) -> Result<(), ClientError> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests;
