//! The configuration file: rules that say which containers get which behaviour.
//!
//! What is wrong is told with file, line and column. A file that does not parse
//! is never half taken.

use crate::policy::{ANNOTATION_RULE, OomGroup};
use glob::Pattern;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};
use std::{
    collections::{BTreeMap, HashSet},
    fmt, fs,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

/// Largest file that is read, bytes. ConfigMaps hold at most 1 MiB.
const LARGEST: u64 = 1 << 20;

/// Most rules; each is a metric label and is tried for each container.
const MOST_RULES: usize = 500;

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
        let name = path.display().to_string();
        let read = || {
            let metadata = fs::metadata(path)?;
            // Reading a pipe would wait for somebody to write.
            if !metadata.is_file() {
                return Err(io::Error::other("it is no regular file"));
            }
            let size = metadata.len();
            if size > LARGEST {
                return Err(io::Error::other(format!("{size} bytes; at most {LARGEST} are read")));
            }
            // Not more than that, whatever the file is and however it grows.
            let mut text = String::new();
            fs::File::open(path)?.take(LARGEST).read_to_string(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|source| ConfigError::Read { path: name.clone(), source })?;
        Self::parse(&text, &name)
    }

    /// Parses the text of a file; `name` is for error messages.
    ///
    /// # Errors
    /// When it is invalid.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        let invalid =
            |place: String, why: String| ConfigError::Invalid { path: name.into(), place, why };
        // An empty file, or one of comments only, has no rules.
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        let raw: RawConfig = serde_saphyr::from_str(text).map_err(|error| {
            let place = error.location().map_or_else(|| "?".into(), place);
            let why = error.without_snippet().to_string();
            // The place is told already, in the form that editors understand.
            invalid(place, why.split(" at line ").next().unwrap_or(&why).to_owned())
        })?;
        raw.check().map_err(|Wrong(location, why)| invalid(place(location), why))
    }
}

fn place(location: Location) -> String {
    format!("{}:{}", location.line(), location.column())
}

/// Something wrong at a place.
struct Wrong(Location, String);

fn wrong<T>(at: Location, why: impl fmt::Display) -> Result<T, Wrong> {
    Err(Wrong(at, why.to_string()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawConfig {
    #[serde(default)]
    rules: Vec<Spanned<RawRule>>,
    #[serde(default)]
    pod_annotations: PodAnnotations,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawRule {
    name: Spanned<String>,
    cgroups: Option<Vec<Spanned<String>>>,
    pods: Option<RawPods>,
    oom_group: OomGroup,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawPods {
    namespaces: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    selector: RawSelector,
    containers: Option<Vec<Spanned<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawSelector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<Spanned<RawRequirement>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawRequirement {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

impl RawConfig {
    fn check(self) -> Result<Config, Wrong> {
        if let Some(rule) = self.rules.get(MOST_RULES) {
            return wrong(rule.referenced, format!("more than {MOST_RULES} rules"));
        }
        let mut names = HashSet::new();
        let mut rules = Vec::new();
        for raw in self.rules {
            let at = raw.value.name.referenced;
            let rule = raw.value.check(raw.referenced)?;
            if !names.insert(rule.name.clone()) {
                return wrong(at, format!("a second rule is named {:?}", rule.name));
            }
            rules.push(rule);
        }
        Ok(Config { rules, pod_annotations: self.pod_annotations })
    }
}

impl RawRule {
    fn check(self, at: Location) -> Result<Rule, Wrong> {
        let name = self.name.value;
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
            let why = "is no rule name: 1 to 63 letters, digits, '-', '_' or '.'";
            return wrong(self.name.referenced, format!("{name:?} {why}"));
        }
        if name == ANNOTATION_RULE {
            return wrong(
                self.name.referenced,
                "\"annotation\" is how pod annotations are counted",
            );
        }
        let selects = match (self.cgroups, self.pods) {
            (Some(globs), None) if globs.is_empty() => {
                return wrong(at, format!("rule {name:?} has an empty list of cgroups"));
            }
            (Some(globs), None) => {
                for glob in &globs {
                    let path = glob.value.as_str();
                    if !path.starts_with('/') || path.ends_with('/') {
                        let why = "is no cgroup path: it must begin with '/' and end with a name";
                        return wrong(glob.referenced, format!("{:?} {why}", glob.value));
                    }
                }
                Selects::Cgroups(patterns(globs)?)
            }
            (None, Some(pods)) => Selects::Pods(pods.check(at)?),
            _ => {
                return wrong(at, format!("rule {name:?} needs either `cgroups` or `pods`"));
            }
        };
        Ok(Rule { name: name.into(), selects, oom_group: self.oom_group })
    }
}

impl RawPods {
    fn check(self, at: Location) -> Result<PodSelector, Wrong> {
        let expressions = self.selector.match_expressions.into_iter();
        let expressions = expressions.map(|raw| {
            let needs = matches!(raw.value.operator, Operator::In | Operator::NotIn);
            if needs == raw.value.values.is_empty() {
                let why = if needs { "needs values" } else { "takes no values" };
                return wrong(raw.referenced, format!("operator {:?} {why}", raw.value.operator));
            }
            let RawRequirement { key, operator, values } = raw.value;
            Ok(Requirement { key, operator, values })
        });
        Ok(PodSelector {
            namespaces: names(self.namespaces, at, "namespaces")?,
            selector: LabelSelector {
                match_labels: self.selector.match_labels,
                match_expressions: expressions.collect::<Result<_, _>>()?,
            },
            containers: names(self.containers, at, "containers")?,
        })
    }
}

/// Names that a pod rule is for; an empty list would match nothing.
fn names(
    globs: Option<Vec<Spanned<String>>>,
    at: Location,
    what: &str,
) -> Result<Option<Vec<Pattern>>, Wrong> {
    match globs {
        Some(globs) if globs.is_empty() => {
            wrong(at, format!("an empty list of {what} matches nothing; leave it out to match all"))
        }
        globs => globs.map(patterns).transpose(),
    }
}

fn patterns(globs: Vec<Spanned<String>>) -> Result<Vec<Pattern>, Wrong> {
    let parse = |glob: Spanned<String>| {
        Pattern::new(&glob.value).or_else(|error| {
            wrong(glob.referenced, format!("{:?} is no glob: {error}", glob.value))
        })
    };
    globs.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests;
