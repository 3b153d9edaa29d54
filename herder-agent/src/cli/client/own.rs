//! `herder-agent self`: the kills of the pod that it runs in.
//!
//! The agent knows the pod by its address, so nothing here says which pod it is. For a pod that has
//! just started, the agent may not know it yet; following waits for that.

use super::{ClientError, finished, follow, http::Agent, print::Printer};
use crate::cli::args::{AgentArgs, SelfArgs};
use serde_json::Value;
use std::process::ExitCode;

/// What is asked for as the last kill where there was none: all are after it.
const NONE: &str = "none";

/// Where the kills are as they come.
const STREAM: &str = "/api/v1/self/kills/stream";

/// Prints the kills of this pod.
pub fn kills(args: SelfArgs) -> ExitCode {
    let (follows, most) = (args.follow, args.limit);
    let args = AgentArgs::from(args);
    finished(async {
        let mut print = Printer::for_pod(args.output);
        show(&Agent::of(&args)?, most, follows, &mut print).await
    })
}

pub(super) async fn show(
    agent: &Agent,
    most: u32,
    follows: bool,
    print: &mut Printer,
) -> Result<(), ClientError> {
    let mut last = NONE.to_owned();
    // The newest says where the stream begins, also if none is to be printed.
    match agent.get(&format!("/api/v1/self/kills?limit={}", most.max(1))).await {
        Ok(text) => {
            let mut kills: Vec<Value> = agent.json(&text)?;
            last = kills.first().map_or(last, name);
            kills.truncate(usize::try_from(most).unwrap_or(usize::MAX));
            kills.reverse();
            print.kills(&kills)?;
        }
        // A client that follows waits.
        Err(error) if follows && may_pass(&error) => {}
        Err(error) => return Err(error),
    }
    if follows {
        follow(agent, STREAM, last, may_pass, print).await?;
    }
    Ok(())
}

/// Whether it may be otherwise later; also where the agent does not know the pod yet.
fn may_pass(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { status: 403, .. }) || super::may_pass(error)
}

fn name(kill: &Value) -> String {
    kill["id"].as_str().unwrap_or(NONE).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::kills::{Kills, OF_POD};
    use serde_json::json;
    use std::time::{Duration, UNIX_EPOCH};

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
