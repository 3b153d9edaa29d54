//! `herder-agent self`: the kills of the pod that it runs in.
//!
//! The agent knows the pod by its address, so nothing here says which pod it is. For a pod that has
//! just started, the agent may not know it yet; following waits for that.

use super::{
    AGAIN, ClientError, each, events::Events, finished, http::Agent, note, print::Printer,
};
use crate::cli::args::{AgentArgs, SelfArgs};
use serde_json::Value;
use std::{process::ExitCode, time::Duration};
use tokio::time::sleep;

/// How long to wait where the agent does not know the pod.
const UNKNOWN: Duration = Duration::from_secs(5);

/// What is asked for as the last kill where there was none: all are after it.
const NONE: &str = "none";

/// Where the kills are as they come.
const STREAM: &str = "/api/v1/self/kills/stream";

/// Prints the kills of this pod.
pub fn kills(args: SelfArgs) -> ExitCode {
    let (follows, most) = (args.follow, args.limit);
    let args = AgentArgs::from(args);
    finished(async {
        let agent = Agent::of(&args)?;
        let mut print = Printer::for_pod(args.output);
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

/// Whether an agent that does not show a pod its kills may do so later.
fn may_pass(status: u16) -> bool {
    matches!(status, 403 | 503)
}

/// Prints kills as they come, for ever. An agent that goes away comes back.
async fn follow(agent: &Agent, mut last: String, print: &mut Printer) -> Result<(), ClientError> {
    let mut noted = String::new();
    loop {
        let mut events = Events::after(last);
        let broken = each(agent, STREAM, &mut events, print).await;
        last = events.last;
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

fn name(kill: &Value) -> String {
    kill["id"].as_str().unwrap_or(NONE).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::kills::{Kills, OF_POD};
    use serde_json::json;
    use std::time::UNIX_EPOCH;

    #[test]
    fn the_table_has_what_the_pod_knows_its_processes_by() {
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
        let text =
            Kills::new(OF_POD).more(&[kill, unknown], UNIX_EPOCH + Duration::from_secs(90), false);
        let expected = "\
AGE      KIND        CONTAINER  VICTIM        NSPID  MEMORY  LIMIT             SURVIVED
30s ago  subprocess  worker     job\\u{1b}[2J  17     412MiB  container 512MiB  yes
30s ago  subprocess  -          -             -      -       pod               not known yet
";
        assert_eq!(text, expected);
    }
}
