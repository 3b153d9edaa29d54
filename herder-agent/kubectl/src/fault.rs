//! Why there is nothing to print, and why an agent is not in what is printed.

use herder_model::causes::Causes;
use hyper::StatusCode;
use serde_json::Value;
use std::{io, time::Duration};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the kubeconfig cannot be used: {}", Causes(.0))]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    #[error("the configured access to the API server cannot be used: {}", Causes(.0))]
    Unusable(#[source] kube::Error),
    #[error("cannot list the agents' pods in namespace {namespace}: {}", Causes(source))]
    List { namespace: String, source: kube::Error },
    #[error("the API server did not list the agents' pods within {0:?}")]
    SlowList(Duration),
    #[error(
        "no agents in namespace {namespace} with labels {selector}: is Herder there? else see --agents-namespace and --agents-selector"
    )]
    NoAgents { namespace: String, selector: String },
    #[error("there are more than {0} agents; choose some with --agents-selector")]
    ManyAgents(usize),
    #[error("none of {0} agents answered")]
    NoAnswer(usize),
    #[error(transparent)]
    Output(#[from] io::Error),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("its pod is {0}")]
    Phase(String),
    #[error("no answer in time")]
    Slow,
    #[error(
        "not asked before --timeout was over: give more time, or ask fewer (--agents-selector)"
    )]
    NotAsked,
    #[error("{status}: {why}")]
    Refused { status: StatusCode, why: String },
    #[error("{}", Causes(.0))]
    Broken(#[source] kube::Error),
    #[error(
        "the agents' answers have more than {0} MiB at once; ask fewer agents (--agents-selector), or with kills -A for fewer kills (--limit)"
    )]
    TooMuch(usize),
    #[error("its answer is not what an agent says: {0}")]
    Garbage(String),
}

/// Longest part of an answer that is printed.
const LONGEST: usize = 300;

impl Fault {
    /// What an answer without success says, in one line. That of the API server is a `Status`.
    pub(crate) fn refused(status: StatusCode, body: &[u8]) -> Self {
        let said: Option<Value> = serde_json::from_slice(body).ok();
        let message = said.as_ref().and_then(|said| said["message"].as_str());
        let text = String::from_utf8_lossy(body);
        let mut why = message.unwrap_or(&text).trim().escape_debug().to_string();
        why.truncate(why.floor_char_boundary(LONGEST));
        if status == StatusCode::UNAUTHORIZED && message.is_none() {
            why += " The API server passes no password on: use kubectl port-forward, and herder-agent kills --user.";
        }
        Fault::Refused { status, why }
    }
}
