//! The program `kubectl-herder`, which kubectl runs as `kubectl herder`.

mod agents;
mod args;
mod cluster;
mod fault;
mod follow;
mod gather;
mod merge;
mod top;

use agents::Agent;
use args::{Cli, Task};
use clap::Parser;
use cluster::Cluster;
use fault::{Error, Fault};
use herder_agent::cli::client::print::Printer;
use merge::Newest;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
    process::ExitCode,
};
use tokio::{runtime::Builder, time::Instant};

/// Some agents did not answer, so something may be missing.
const PARTIAL: u8 = 3;

/// Containers of all nodes that are kept.
const MOST_ROWS: usize = 100_000;

/// Whether every agent answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    All,
    Some,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ran = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Output)
        .and_then(|runtime| runtime.block_on(run(&cli)));
    match ran {
        Ok(Answered::All) => ExitCode::SUCCESS,
        Ok(Answered::Some) => ExitCode::from(PARTIAL),
        Err(error) => {
            note(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> Result<Answered, Error> {
    let common = match &cli.task {
        Task::Kills(args) => &args.common,
        Task::Containers(args) => &args.common,
        Task::Top(args) => &args.common,
    };
    let cluster = Cluster::connect(common).await?;
    let deadline = Instant::now() + common.timeout();
    let agents = cluster.agents(deadline).await?;
    let mut print = Printer::new(common.output, true);
    let shown = |one: &Value| common.all_namespaces || is_in(one, cluster.namespace());
    match &cli.task {
        Task::Kills(args) => {
            let mut newest = Newest::new(args.limit);
            // Of some namespaces there may be none among the last ones of a node.
            let query = if common.all_namespaces {
                format!("?limit={}", args.limit.max(1))
            } else {
                String::new()
            };
            let ran = agents.iter().filter(|agent| agent.not_running.is_none());
            let mut last: HashMap<_, _> = ran.map(|agent| (agent.pod.clone(), None)).collect();
            let faults = gather::all(
                &cluster,
                &agents,
                &format!("api/v1/kills{query}"),
                deadline,
                |agent, kills| {
                    let number = kills.first().map_or(0, merge::number);
                    last.insert(agent.pod.clone(), Some(number));
                    newest.add(
                        kills.into_iter().filter(|kill| shown(kill)).map(|kill| of(agent, kill)),
                    );
                },
            )
            .await;
            let mut printed = print.kills(&newest.oldest_first());
            let answered = report(&agents, &faults)?;
            if args.follow && printed.is_ok() {
                printed = follow::follow(cluster, common, &last, &mut print).await;
            }
            delivered(printed, answered)
        }
        Task::Containers(_) => {
            let (mut all, mut left_out) = (Vec::new(), 0);
            let faults =
                gather::all(&cluster, &agents, "api/v1/containers", deadline, |agent, found| {
                    let found = found.into_iter().filter(|container| shown(&container["owner"]));
                    for container in found {
                        if all.len() < MOST_ROWS {
                            all.push(of(agent, container));
                        } else {
                            left_out += 1;
                        }
                    }
                })
                .await;
            let printed = print.containers(&all);
            delivered(printed, bounded(report(&agents, &faults)?, left_out))
        }
        Task::Top(args) => {
            let mut top = top::Top::default();
            let faults =
                gather::all(&cluster, &agents, "api/v1/kills", deadline, |agent, kills| {
                    kills.iter().filter(|kill| shown(kill)).for_each(|kill| top.add(agent, kill));
                })
                .await;
            let left_out = top.left_out();
            let printed = print.rows(&top.rows(args.limit), top::table);
            delivered(printed, bounded(report(&agents, &faults)?, left_out))
        }
    }
}

/// What was answered, if it could be printed. `kubectl herder kills | head` is no failure, and what
/// it printed may be partial.
fn delivered(printed: io::Result<()>, answered: Answered) -> Result<Answered, Error> {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(answered),
    }
}

/// Says how many containers there was no room for, if there were any.
fn bounded(answered: Answered, left_out: usize) -> Answered {
    if left_out == 0 {
        return answered;
    }
    note(&format!(
        "{left_out} more are left out: {MOST_ROWS} containers are kept; choose a namespace"
    ));
    Answered::Some
}

/// What an agent said, with its node.
fn of(agent: &Agent, mut one: Value) -> Value {
    if let Some(fields) = one.as_object_mut() {
        fields.insert("node".into(), agent.node.clone().into());
    }
    one
}

fn is_in(one: &Value, namespace: &str) -> bool {
    one["namespace"].as_str() == Some(namespace)
}

/// Something that is not part of the answer. Without a standard error the exit code says the rest.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "kubectl-herder: {text}");
}

/// A line for each reason, with all agents that have it: hundreds often have the same.
fn by_reason(faults: impl Iterator<Item = (Agent, String)>) -> Vec<String> {
    let mut agents = BTreeMap::<String, Vec<String>>::new();
    faults.for_each(|(agent, why)| agents.entry(why).or_default().push(agent.to_string()));
    agents.into_iter().map(|(why, agents)| format!("{}: {why}", agents.join(", "))).collect()
}

/// Names each agent that did not answer, with the reason.
fn report(agents: &[Agent], faults: &[(Agent, Fault)]) -> Result<Answered, Error> {
    by_reason(faults.iter().map(|(agent, fault)| (agent.clone(), fault.to_string())))
        .iter()
        .for_each(|line| note(line));
    if agents.len() == faults.len() {
        return Err(Error::NoAnswer(agents.len()));
    }
    if !faults.is_empty() {
        note(&format!("{} of {} agents did not answer", faults.len(), agents.len()));
        return Ok(Answered::Some);
    }
    Ok(Answered::All)
}
