//! The configuration file: rules that say which containers get which behaviour.
//!
//! An error names file, line and column. An invalid file is rejected as a whole.

mod log_level;
mod names;
mod protect_init;
pub mod raw;
mod syntax;

pub use log_level::{BadLogLevel, LogLevel};

use crate::escalation::Escalate;
use glob::Pattern;
use raw::{RawConfig, Wrong};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_saphyr::Location;
use std::{collections::BTreeMap, sync::Arc};

/// The name that a pod's annotation has among the rules.
pub const ANNOTATION_RULE: &str = "annotation";

/// A valid configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The rules in their order; the first that matches wins.
    pub rules: Vec<Rule>,
    /// Whether pods may choose for themselves where no rule matches.
    pub pod_annotations: PodAnnotations,
    /// What is logged, in place of `--log-level`.
    pub log_level: Option<LogLevel>,
    /// Line and column of the first `victimArguments: true`. What such a rule asks for is not for
    /// everyone, so whether it is accepted depends on who can ask the agent.
    pub arguments_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name, a metric label.
    pub name: Arc<str>,
    pub selects: Selects,
    pub oom_group: OomGroup,
    /// What follows when processes of a container keep dying. Only with
    /// [`OomGroup::SingleProcess`].
    pub escalate: Option<Escalate>,
    /// Whether the container's init is to be exempt from OOM kills.
    pub protect_init: bool,
    pub victim_arguments: bool,
}

/// What a rule wants of `memory.oom.group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OomGroup {
    /// 0: the kernel kills one process.
    SingleProcess,
    /// 1: the kernel kills all processes of the cgroup.
    Group,
    /// Hands off.
    Leave,
}

/// Which containers a rule is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Selects {
    Cgroups(Vec<Pattern>),
    Pods(PodSelector),
}

/// Which containers of which pods. What is left out matches all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSelector {
    pub namespaces: Option<Vec<Pattern>>,
    /// Labels of the pod.
    pub selector: LabelSelector,
    pub containers: Option<Vec<Pattern>>,
}

/// A Kubernetes label selector (`metav1.LabelSelector`): all parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub match_labels: BTreeMap<String, String>,
    pub match_expressions: Vec<Requirement>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

/// `metav1.LabelSelectorOperator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Operator {
    In,
    /// Is not there, or is none of the values.
    NotIn,
    Exists,
    DoesNotExist,
}

/// What pods may say about themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodAnnotations {
    /// The annotation `herder.dev/oom-group` counts where no rule matches, and with it
    /// `herder.dev/oom-escalate`.
    #[default]
    Allow,
    Ignore,
}

/// Why a rule with `victimArguments` is not accepted, where everyone can ask the agent.
const EXPOSED: &str = "`victimArguments` needs a port that not everyone can ask, because arguments may be secret: \
     give the agent --web-config-file with basic_auth_users or RequireAndVerifyClientCert, or \
     --listen with loopback addresses only";

/// Why a text is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}:{place}: {why}")]
pub struct InvalidConfig {
    pub path: String,
    /// Line and column.
    pub place: String,
    /// What is wrong and what would be right.
    pub why: String,
}

impl Config {
    /// Parses the text of a file; `name` is for error messages.
    pub fn parse(text: &str, name: &str) -> Result<Self, InvalidConfig> {
        let invalid = |place: String, why: String| InvalidConfig { path: name.into(), place, why };
        if is_empty(text) {
            return Ok(Self::default());
        }
        let raw: RawConfig = from_yaml(text, name)?;
        raw.check().map_err(|Wrong(location, why)| invalid(place(location), why))
    }

    /// Accepts it only if the agent is `guarded`, or nothing in it needs that: clients have to
    /// authenticate themselves, or are processes of this machine. `name` is for the error, which has
    /// the place of the first rule that needs it.
    pub fn where_asked(self, guarded: bool, name: &str) -> Result<Self, InvalidConfig> {
        match &self.arguments_at {
            Some(place) if !guarded => {
                Err(InvalidConfig { path: name.into(), place: place.clone(), why: EXPOSED.into() })
            }
            _ => Ok(self),
        }
    }
}

/// What a text in YAML says; `name` is for error messages.
pub fn from_yaml<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, InvalidConfig> {
    serde_saphyr::from_str(text).map_err(|error| InvalidConfig {
        path: name.into(),
        place: error.location().map_or_else(|| "1:1".into(), place),
        why: syntax::explained(&error),
    })
}

/// Whether there is nothing in a file but comments and white space. It is a configuration
/// without rules, and also what a file is for a moment while an editor writes it.
pub fn is_empty(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}');
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

/// Line and column.
pub fn place(location: Location) -> String {
    format!("{}:{}", location.line(), location.column())
}

#[cfg(test)]
mod tests;
