//! Why there is nothing to print, and why an agent is not in what is printed.

use herder_model::causes::Causes;
use hyper::StatusCode;
use serde_json::Value;
use std::{io, time::Duration};

/// Nothing can be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No access to a cluster.
    #[error("the kubeconfig cannot be used: {}", Causes(.0))]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// A certificate, a credential or a proxy is broken.
    #[error("the configured access to the API server cannot be used: {}", Causes(.0))]
    Unusable(#[source] kube::Error),
    /// The pods of the agents cannot be listed.
    #[error("cannot list the agents' pods in namespace {namespace}: {}", Causes(source))]
    List {
        /// Where they are looked for.
        namespace: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// The API server is too slow.
    #[error("the API server did not list the agents' pods within {0:?}")]
    SlowList(Duration),
    /// There is no agent to ask.
    #[error(
        "no agents in namespace {namespace} with labels {selector}: is Herder there? else see --agents-namespace and --agents-selector"
    )]
    NoAgents {
        /// Where they were looked for.
        namespace: String,
        /// By which labels.
        selector: String,
    },
    /// No agent answered.
    #[error("none of {0} agents answered")]
    NoAnswer(usize),
    /// Standard output is gone.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// One agent is missing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// It does not run.
    #[error("its pod is {0}")]
    Phase(String),
    /// It took too long.
    #[error("no answer in time")]
    Slow,
    /// The API server or the agent does not want to.
    #[error("{status}: {why}")]
    Refused {
        /// What was answered.
        status: StatusCode,
        /// Why.
        why: String,
    },
    /// The connection broke.
    #[error("{}", Causes(.0))]
    Broken(#[source] kube::Error),
    /// The answer is not one of an agent.
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
