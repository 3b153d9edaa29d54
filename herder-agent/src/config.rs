//! The configuration file: rules that say which containers get which behaviour.
//!
//! What is wrong is told with file, line and column. A file that does not parse
//! is never half taken.

mod names;
pub(crate) mod raw;
mod syntax;

use crate::policy::OomGroup;
use glob::Pattern;
use raw::{RawConfig, Wrong};
use serde::{Deserialize, de::DeserializeOwned};
use serde_saphyr::Location;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

/// `O_NONBLOCK`, in the type that the standard library takes.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// Largest file that is read, bytes. ConfigMaps hold at most 1 MiB.
const LARGEST: u64 = 1 << 20;

/// A valid configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The rules in their order; the first that matches wins.
    pub rules: Vec<Rule>,
    /// Whether pods may choose for themselves where no rule matches.
    pub pod_annotations: PodAnnotations,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name, a metric label.
    pub name: Arc<str>,
    /// Which containers it is for.
    pub selects: Selects,
    /// What it wants.
    pub oom_group: OomGroup,
}

/// Which containers a rule is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Selects {
    /// Cgroups by path.
    Cgroups(Vec<Pattern>),
    /// Containers of pods.
    Pods(PodSelector),
}

/// Which containers of which pods. What is left out matches all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSelector {
    /// Names of namespaces.
    pub namespaces: Option<Vec<Pattern>>,
    /// Labels of the pod.
    pub selector: LabelSelector,
    /// Names of containers.
    pub containers: Option<Vec<Pattern>>,
}

/// A Kubernetes label selector (`metav1.LabelSelector`): all parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// Labels with these values.
    pub match_labels: BTreeMap<String, String>,
    /// Further conditions.
    pub match_expressions: Vec<Requirement>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// What with.
    pub values: Vec<String>,
}

/// `metav1.LabelSelectorOperator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Operator {
    /// Is one of the values.
    In,
    /// Is not there, or is none of the values.
    NotIn,
    /// Is there.
    Exists,
    /// Is not there.
    DoesNotExist,
}

/// What pods may say about themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodAnnotations {
    /// The annotation `herder.dev/oom-group` counts where no rule matches.
    #[default]
    Allow,
    /// It does not.
    Ignore,
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// Its path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file has lost its content.
    #[error(
        "the configuration {path} has become empty; write `rules: []` if no rule is wanted any more"
    )]
    Emptied {
        /// Its path.
        path: String,
    },
    /// The file is not what it should be.
    #[error("{path}:{place}: {why}")]
    Invalid {
        /// Its path.
        path: String,
        /// Line and column.
        place: String,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is invalid.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read(path)?, &path.display().to_string())
    }

    /// Parses the text of a file; `name` is for error messages.
    ///
    /// # Errors
    /// When it is invalid.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        let invalid =
            |place: String, why: String| ConfigError::Invalid { path: name.into(), place, why };
        if is_empty(text) {
            return Ok(Self::default());
        }
        let raw: RawConfig = from_yaml(text, name)?;
        raw.check().map_err(|Wrong(location, why)| invalid(place(location), why))
    }
}

/// What a text in YAML says; `name` is for error messages.
pub(crate) fn from_yaml<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, ConfigError> {
    serde_saphyr::from_str(text).map_err(|error| ConfigError::Invalid {
        path: name.into(),
        place: error.location().map_or_else(|| "1:1".into(), place),
        why: syntax::explained(&error),
    })
}

/// The text of a file, of which there may be at most a MiB.
///
/// # Errors
/// When it cannot be read, or is no regular file, too large, or not UTF-8.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.display().to_string(), source };
    read_text(path).map_err(failed)
}

pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait for somebody to write.
    let file = fs::OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    // Not more than that, whatever the file is and however it grows.
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        let size = metadata.len();
        return Err(io::Error::other(format!("{size} bytes; at most {LARGEST} are read")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::other(format!("byte {at} is not UTF-8 text; save the file as UTF-8"))
    })
}

/// Whether there is nothing in a file but comments and white space. It is a configuration
/// without rules, and also what a file is for a moment while an editor writes it.
pub fn is_empty(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}');
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

pub(crate) fn place(location: Location) -> String {
    format!("{}:{}", location.line(), location.column())
}

#[cfg(test)]
mod tests;
