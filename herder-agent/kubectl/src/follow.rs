//! Kills as they happen, by a stream of each agent. Agents that come are followed too, and one
//! that goes away is asked again.

use crate::{
    Cluster, agents::Agent, args::Common, by_reason, fault::Fault, is_in, merge::number, note, of,
};
use herder_agent::cli::client::{
    events::{self, Events},
    print::Printer,
};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use std::{collections::HashMap, io, time::Duration};
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, interval, sleep, sleep_until, timeout},
};

/// How long to wait before a stream that ended is opened again.
const AGAIN: Duration = Duration::from_secs(2);

/// The same after one that could not be had.
const LATER: Duration = Duration::from_secs(15);

/// How long an agent may take for the head of a stream.
const HEAD: Duration = Duration::from_secs(10);

/// A stream says something every 15 seconds; this long after that it is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// How often it is looked which agents there are.
const LOOK: Duration = Duration::from_secs(30);

/// How long faults are collected, so that those of many agents are one line.
const TOGETHER: Duration = Duration::from_secs(2);

/// Agents that are followed at once; each takes a connection.
const MOST: usize = 1000;

/// What may wait to be printed.
const WAITING: usize = 256;

enum News {
    Kill(Value),
    Settled(Value),
    Note(String),
    Fault(Agent, String),
}

/// Prints kills as they come, for ever. `last` has the agents that ran before, each with the number
/// of its last kill if it said that. All kills of an agent that came later are new.
pub(crate) async fn follow(
    cluster: Cluster,
    common: &Common,
    last: &HashMap<String, Option<u64>>,
    print: &mut Printer,
) -> io::Result<()> {
    let (sender, mut news) = mpsc::channel(WAITING);
    let mut followed: HashMap<String, AbortHandle> = HashMap::new();
    let mut look = interval(LOOK);
    let shown = |kill: &Value| common.all_namespaces || is_in(kill, cluster.namespace());
    let mut is_full = false;
    let (mut faults, mut noted) = (Vec::new(), Instant::now());
    loop {
        tokio::select! {
            _ = look.tick() => match cluster.agents(Instant::now() + common.timeout()).await {
                Ok(agents) => {
                    let running: Vec<_> =
                        agents.into_iter().filter(|agent| agent.not_running.is_none()).collect();
                    followed.retain(|pod, task| {
                        let is_there = running.iter().any(|agent| agent.pod == *pod);
                        if !is_there {
                            task.abort();
                        }
                        is_there
                    });
                    for agent in running {
                        if followed.contains_key(&agent.pod) {
                            continue;
                        }
                        if followed.len() >= MOST {
                            if !std::mem::replace(&mut is_full, true) {
                                note(&format!("only {MOST} agents are followed"));
                            }
                            break;
                        }
                        let pod = agent.pod.clone();
                        let after = last.get(&pod).copied().unwrap_or(Some(0));
                        let task = tokio::spawn(one(cluster.clone(), agent, after, sender.clone()));
                        followed.insert(pod, task.abort_handle());
                    }
                }
                Err(error) => note(&error.to_string()),
            },
            Some(news) = news.recv() => match news {
                News::Kill(kill) if shown(&kill) => print.kills(&[kill])?,
                News::Settled(kill) if shown(&kill) => print.settled(&kill)?,
                News::Kill(_) | News::Settled(_) => {}
                News::Note(text) => note(&text),
                News::Fault(agent, why) => {
                    if faults.is_empty() {
                        noted = Instant::now() + TOGETHER;
                    }
                    faults.push((agent, why));
                }
            },
            () = sleep_until(noted), if !faults.is_empty() => {
                by_reason(faults.drain(..))
                    .iter()
                    .for_each(|line| note(&format!("{line}; trying again")));
            }
        }
    }
}

/// One agent, for ever.
async fn one(cluster: Cluster, agent: Agent, last: Option<u64>, news: mpsc::Sender<News>) {
    let mut last = last.map(|last| last.to_string());
    let mut noted = String::new();
    loop {
        let ended = match timeout(HEAD, open(&cluster, &agent, &mut last)).await {
            Ok(Ok((body, mut events))) => {
                noted.clear();
                let ended = each(body, &agent, &mut events, &news).await;
                last = Some(events.last);
                ended
            }
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(Fault::Slow),
        };
        let pause = match ended {
            // After an hour, or with the agent.
            Ok(()) => AGAIN,
            Err(fault) => {
                let why = fault.to_string();
                // Once, and not each time.
                let is_new = noted != why;
                noted.clone_from(&why);
                if is_new && news.send(News::Fault(agent.clone(), why)).await.is_err() {
                    return;
                }
                LATER
            }
        };
        sleep(pause).await;
    }
}

/// A stream that begins after the last kill. An agent that has not said yet which that is, says it
/// first: a stream that begins now would lose the kills before its next one.
async fn open(
    cluster: &Cluster,
    agent: &Agent,
    last: &mut Option<String>,
) -> Result<(Body, Events), Fault> {
    if last.is_none() {
        let newest = cluster.list(agent, "api/v1/kills?limit=1").await?;
        *last = Some(newest.first().map_or(0, number).to_string());
    }
    let answer = cluster.ask(agent, "api/v1/kills/stream", last.as_deref()).await?;
    Ok((answer.into_body(), Events::after(last.clone().unwrap_or_default())))
}

/// Each event of one stream.
async fn each(
    mut body: Body,
    agent: &Agent,
    events: &mut Events,
    news: &mpsc::Sender<News>,
) -> Result<(), Fault> {
    loop {
        let frame = timeout(SILENCE, body.frame()).await.map_err(|_| Fault::Slow)?;
        let Some(frame) = frame else { return Ok(()) };
        if let Some(data) = frame.map_err(Fault::Broken)?.data_ref() {
            events.push(data);
        }
        for one in events.by_ref() {
            let one = match one.map_err(|error| Fault::Garbage(error.to_string()))? {
                events::News::Kill(kill) => News::Kill(of(agent, kill)),
                events::News::Settled(kill) => News::Settled(of(agent, kill)),
                events::News::Missed(missed) => {
                    News::Note(format!("{agent}: {missed} kills came faster than they were read"))
                }
            };
            if news.send(one).await.is_err() {
                return Ok(());
            }
        }
    }
}
