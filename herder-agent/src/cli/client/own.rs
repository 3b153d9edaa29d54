//! `herder-agent self`: the kills of the pod that it runs in.
//!
//! The agent knows the pod by its address, so nothing here says which pod it is. For a pod that has
//! just started, the agent may not know it yet; following waits for that.

use super::{
    AGAIN, ClientError,
    events::{Events, News},
    finished,
    http::Agent,
    kills::{limit, memory, survived},
    note,
    print::print,
    table::{Cell, Columns, Look, json},
    time::ago,
};
use crate::cli::{
    args::{AgentArgs, Output, SelfArgs},
    telemetry::colours,
};
use hyper::header::HeaderValue;
use serde_json::Value;
use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};
use tokio::time::sleep;

/// How long to wait where the agent does not know the pod.
const UNKNOWN: Duration = Duration::from_secs(5);

/// What is asked for as the last kill where there was none: all are after it.
const NONE: &str = "none";

const HEAD: [&str; 8] =
    ["AGE", "KIND", "CONTAINER", "VICTIM", "NSPID", "MEMORY", "LIMIT", "SURVIVED"];

/// Prints the kills of this pod.
pub fn kills(args: SelfArgs) -> ExitCode {
    let (follows, most) = (args.follow, args.limit);
    let args = AgentArgs::from(args);
    finished(async {
        let agent = Agent::of(&args)?;
        let mut print = Own { output: args.output, columns: Columns::default(), begun: false };
        let mut last = NONE.to_owned();
        let path = format!("/api/v1/self/kills?limit={most}");
        match agent.get(&path).await {
            Ok(text) => {
                let mut kills: Vec<Value> = agent.json(&text)?;
                kills.reverse();
                print.kills(&kills)?;
                last = kills.last().map_or(last, name);
            }
            // A client that follows waits.
            Err(ClientError::Refused { status, body, .. }) if follows && may_pass(status) => {
                note(&body)?;
                sleep(UNKNOWN).await;
            }
            Err(error) => return Err(error),
        }
        if follows {
            follow(&agent, last, &mut print).await?;
        }
        Ok(())
    })
}

/// Whether an agent that does not tell a pod of its kills may do so later.
fn may_pass(status: u16) -> bool {
    matches!(status, 403 | 503)
}

/// Prints kills as they come, for ever. An agent that goes away comes back.
async fn follow(agent: &Agent, mut last: String, print: &mut Own) -> Result<(), ClientError> {
    let mut noted = String::new();
    loop {
        let mut events = Events::default();
        let broken = each(agent, &last, &mut events, print).await;
        last = events.last_name.unwrap_or(last);
        let mut wait = AGAIN;
        match broken {
            // The agent ended the stream, after an hour or with itself.
            Ok(()) => noted.clear(),
            Err(error @ (ClientError::Output(_) | ClientError::Json { .. })) => return Err(error),
            Err(error) => {
                if let ClientError::Refused { status, .. } = &error {
                    if !may_pass(*status) {
                        return Err(error);
                    }
                    wait = UNKNOWN;
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

/// Each event of one stream, which goes on after a kill.
async fn each(
    agent: &Agent,
    last: &str,
    events: &mut Events,
    print: &mut Own,
) -> Result<(), ClientError> {
    let last = HeaderValue::from_str(last).ok();
    let mut answer = agent.ask("/api/v1/self/kills/stream", last).await?;
    while let Some(bytes) = answer.more().await? {
        events.push(&bytes);
        for news in events.by_ref() {
            if let News::Kill(kill) = news.map_err(|source| agent.no_json(source))? {
                print.kills(&[kill])?;
            }
        }
    }
    Ok(())
}

fn name(kill: &Value) -> String {
    kill["id"].as_str().unwrap_or(NONE).to_owned()
}

/// Standard output in the chosen format.
struct Own {
    output: Output,
    columns: Columns,
    begun: bool,
}

impl Own {
    /// Kills, oldest first.
    fn kills(&mut self, kills: &[Value]) -> Result<(), ClientError> {
        let text = match self.output {
            Output::Json => json(kills),
            Output::Table => self.table(kills, SystemTime::now(), colours()),
        };
        Ok(print(&text)?)
    }

    fn table(&mut self, kills: &[Value], now: SystemTime, colours: bool) -> String {
        let mut rows = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            rows.push(HEAD.map(|name| Cell::new(name, Look::Head)).into());
        }
        rows.extend(kills.iter().map(|kill| row(kill, now)));
        self.columns.lines(&rows, colours)
    }
}

fn row(kill: &Value, now: SystemTime) -> Vec<Cell> {
    let text = |value: &Value| match value.as_str() {
        None | Some("") => "-".to_owned(),
        Some(text) => text.to_owned(),
    };
    let victim = &kill["victim"];
    let look = match kill["survived"].as_bool() {
        Some(true) => Look::Good,
        Some(false) => Look::Bad,
        None => Look::Plain,
    };
    let pid = victim["ns_pid"].as_u64().map_or("-".to_owned(), |pid| pid.to_string());
    vec![
        Cell::new(ago(&text(&kill["time"]), now), Look::Dim),
        Cell::new(text(&kill["kind"]), look),
        Cell::new(text(&kill["container"]), Look::Plain),
        Cell::new(text(&victim["comm"]), Look::Plain),
        Cell::new(pid, Look::Plain),
        Cell::new(memory(victim), Look::Plain),
        Cell::new(limit(kill), Look::Plain),
        Cell::new(survived(kill), look),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::UNIX_EPOCH;

    #[test]
    fn the_table_has_what_the_pod_knows_its_processes_by() {
        let mut own = Own { output: Output::Table, columns: Columns::default(), begun: false };
        let kill = json!({
            "id": "0123456789abcdef", "time": "1970-01-01T00:01:00.000Z", "kind": "subprocess",
            "limit": "container", "limit_bytes": 512 << 20, "container_limit_bytes": 512 << 20,
            "container": "worker", "processes": 1, "survived": true,
            "victim": {"comm": "job\u{1b}[2J", "ns_pid": 17, "anon_rss": 412 << 20}
        });
        let mut unknown = kill.clone();
        for key in ["container", "survived", "limit_bytes"] {
            unknown[key] = Value::Null;
        }
        unknown["limit"] = "pod".into();
        unknown["victim"] = json!({});
        let text = own.table(&[kill, unknown], UNIX_EPOCH + Duration::from_secs(90), false);
        let expected = "\
AGE      KIND        CONTAINER  VICTIM        NSPID  MEMORY  LIMIT             SURVIVED
30s ago  subprocess  worker     job\\u{1b}[2J  17     412MiB  container 512MiB  yes
30s ago  subprocess  -          -             -      -       pod               not known yet
";
        assert_eq!(text, expected);
    }
}
