//! The configuration file as it is written, and what is checked beyond its syntax.
//!
//! A key without a value, which is what a list is whose items are all commented out, is
//! never taken for one that was left out: leaving a key out matches more.

use super::{
    Config, LabelSelector, LogLevel, Operator, PodAnnotations, PodSelector, Requirement, Rule,
    Selects, names, place, protect_init::ProtectInit,
};
use crate::{
    escalation::{self, Escalate, EscalateError, To},
    rules::parse::{ANNOTATION_RULE, OomGroup},
};
use glob::Pattern;
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

/// Most rules; each is a metric label and is tried for each container.
const MOST_RULES: usize = 500;

/// Something wrong at a place.
pub struct Wrong(pub Location, pub String);

pub fn wrong<T>(at: Location, why: impl fmt::Display) -> Result<T, Wrong> {
    Err(Wrong(at, why.to_string()))
}

/// Something that is there, and its value if it has one.
pub type Item<T> = Spanned<Option<T>>;

/// A key that may be left out. One that is not there is kept apart from one that has no value,
/// which are the same to serde.
pub struct Key<T>(pub Option<Item<T>>);

impl<T> Key<T> {
    /// Where its value is, if the key is there.
    pub fn at(&self) -> Option<Location> {
        self.0.as_ref().map(|item| item.referenced)
    }
}

impl<T> Default for Key<T> {
    fn default() -> Self {
        Key(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Key<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Item::deserialize(deserializer).map(|item| Key(Some(item)))
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[serde(expecting = "the keys `rules`, `podAnnotations` and `logLevel`")]
pub(super) struct RawConfig {
    rules: Key<Vec<Item<RawRule>>>,
    pod_annotations: Key<PodAnnotations>,
    log_level: Key<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[serde(
    expecting = "a rule: the keys `name`, `oomGroup`, `cgroups` or `pods`, and perhaps `escalate`, `protectInit` and `victimArguments`"
)]
struct RawRule {
    name: Key<String>,
    cgroups: Key<Vec<Item<String>>>,
    pods: Key<RawPods>,
    oom_group: Key<OomGroup>,
    escalate: Key<RawEscalate>,
    protect_init: Key<ProtectInit>,
    victim_arguments: Key<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[serde(expecting = "the keys `after`, `within` and `to`")]
struct RawEscalate {
    after: Key<i64>,
    within: Key<String>,
    to: Key<To>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[serde(expecting = "the keys `namespaces`, `selector` and `containers`")]
struct RawPods {
    namespaces: Key<Vec<Item<String>>>,
    selector: Key<RawSelector>,
    containers: Key<Vec<Item<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[serde(expecting = "the keys `matchLabels` and `matchExpressions`")]
struct RawSelector {
    match_labels: Key<BTreeMap<String, Item<String>>>,
    match_expressions: Key<Vec<Item<RawRequirement>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[serde(expecting = "a condition: the keys `key`, `operator` and `values`")]
struct RawRequirement {
    key: Key<String>,
    operator: Key<Operator>,
    values: Key<Vec<Item<String>>>,
}

/// The value of a key, if the key is there.
pub fn value<T>(key: Key<T>, name: &str) -> Result<Option<T>, Wrong> {
    key.0.map(|item| item_value(item, &format!("`{name}`"))).transpose()
}

/// The value of a key that must be there.
fn needed<T>(key: Key<T>, name: &str, of: &str, at: Location) -> Result<T, Wrong> {
    match value(key, name)? {
        Some(value) => Ok(value),
        None => wrong(at, format!("{of} has no `{name}`")),
    }
}

/// The value of something that is there.
pub fn item_value<T>(item: Item<T>, what: &str) -> Result<T, Wrong> {
    match item.value {
        Some(value) => Ok(value),
        None => wrong(
            item.referenced,
            format!(
                "{what} has no value; write one, or remove the line (all below it may be commented out)"
            ),
        ),
    }
}

/// The items of a list, with their places.
pub fn items<T>(list: Vec<Item<T>>, of: &str) -> Result<Vec<(Location, T)>, Wrong> {
    let what = format!("an item of `{of}`");
    list.into_iter().map(|item| Ok((item.referenced, item_value(item, &what)?))).collect()
}

impl RawConfig {
    pub(super) fn check(self) -> Result<Config, Wrong> {
        let raw = items(value(self.rules, "rules")?.unwrap_or_default(), "rules")?;
        if let Some((at, _)) = raw.get(MOST_RULES) {
            return wrong(*at, format!("more than {MOST_RULES} rules"));
        }
        let mut names = HashSet::new();
        let mut rules = Vec::new();
        let asks = |raw: &RawRule| {
            let key = raw.victim_arguments.0.as_ref().filter(|key| key.value == Some(true));
            key.map(|key| place(key.referenced))
        };
        let arguments_at = raw.iter().find_map(|(_, raw)| asks(raw));
        for (at, raw) in raw {
            let named = raw.name.at().unwrap_or(at);
            let rule = raw.check(at)?;
            if !names.insert(rule.name.clone()) {
                return wrong(named, format!("a second rule is named {:?}", rule.name));
            }
            rules.push(rule);
        }
        let pod_annotations = value(self.pod_annotations, "podAnnotations")?.unwrap_or_default();
        let log_level = self.log_level.0.map(log_level).transpose()?;
        Ok(Config { rules, pod_annotations, log_level, arguments_at })
    }
}

fn log_level(item: Item<String>) -> Result<LogLevel, Wrong> {
    let at = item.referenced;
    item_value(item, "`logLevel`")?.parse().or_else(|error| wrong(at, error))
}

impl RawRule {
    fn check(self, at: Location) -> Result<Rule, Wrong> {
        let named = self.name.at().unwrap_or(at);
        let name = needed(self.name, "name", "the rule", at)?;
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
            let why = "is no rule name: 1 to 63 letters, digits, '-', '_' or '.'";
            return wrong(named, format!("{name:?} {why}"));
        }
        if name == ANNOTATION_RULE {
            return wrong(named, "\"annotation\" is how pod annotations are counted");
        }
        let of = format!("rule {name:?}");
        let oom_group = needed(self.oom_group, "oomGroup", &of, at)?;
        let protects_at = self.protect_init.at().unwrap_or(at);
        let ProtectInit(protect_init) =
            value(self.protect_init, "protectInit")?.unwrap_or_default();
        if protect_init && oom_group != OomGroup::SingleProcess {
            let why = "needs `oomGroup: single-process`: else the container ends with its children";
            return wrong(protects_at, format!("`protectInit` of {of} {why}"));
        }
        let arguments_at = self.victim_arguments.at().unwrap_or(at);
        let victim_arguments = value(self.victim_arguments, "victimArguments")?.unwrap_or_default();
        if victim_arguments && oom_group == OomGroup::Leave {
            let why =
                "goes with oomGroup: single-process or group: no rule governs what is left alone";
            return wrong(arguments_at, format!("`victimArguments` of {of} {why}"));
        }
        let selects = match (value(self.cgroups, "cgroups")?, value(self.pods, "pods")?) {
            (Some(globs), None) if globs.is_empty() => {
                return wrong(at, format!("{of} has an empty list of cgroups"));
            }
            (Some(globs), None) => Selects::Cgroups(patterns(globs, "cgroups", names::cgroup)?),
            (None, Some(pods)) => Selects::Pods(pods.check(at)?),
            _ => return wrong(at, format!("{of} needs either `cgroups` or `pods`")),
        };
        let asked = self.escalate.at().unwrap_or(at);
        let escalate = value(self.escalate, "escalate")?;
        let escalate = escalate.map(|escalate| escalate.check(asked)).transpose()?;
        if escalate.is_some() && oom_group != OomGroup::SingleProcess {
            let why = "`escalate` goes with oomGroup: single-process only; else no single processes are killed";
            return wrong(asked, why);
        }
        Ok(Rule { name: name.into(), selects, oom_group, escalate, protect_init, victim_arguments })
    }
}

impl RawEscalate {
    fn check(self, at: Location) -> Result<Escalate, Wrong> {
        let (counted, timed) = (self.after.at().unwrap_or(at), self.within.at().unwrap_or(at));
        let to = needed(self.to, "to", "`escalate`", at)?;
        let after = match value(self.after, "after")? {
            Some(after) => u64::try_from(after)
                .or_else(|_| wrong(counted, EscalateError::After(after.to_string())))?,
            None => escalation::DEFAULT_AFTER,
        };
        let within = match value(self.within, "within")? {
            Some(text) => escalation::duration(&text).or_else(|error| wrong(timed, error))?,
            None => escalation::DEFAULT_WITHIN,
        };
        Escalate::new(after, within, to).or_else(|error| wrong(counted, error))
    }
}

impl RawPods {
    fn check(self, at: Location) -> Result<PodSelector, Wrong> {
        let selector = value(self.selector, "selector")?.unwrap_or_default();
        Ok(PodSelector {
            namespaces: pod_names(self.namespaces, at, "namespaces")?,
            selector: selector.check()?,
            containers: pod_names(self.containers, at, "containers")?,
        })
    }
}

impl RawSelector {
    fn check(self) -> Result<LabelSelector, Wrong> {
        let labels = value(self.match_labels, "matchLabels")?.unwrap_or_default();
        let labels = labels.into_iter().map(|(key, item)| {
            let at = item.referenced;
            refused(at, names::label_key(&key))?;
            let value = item_value(item, &format!("the label {key:?}"))?;
            refused(at, names::label_value(&value))?;
            Ok((key, value))
        });
        let match_labels = labels.collect::<Result<_, Wrong>>()?;
        let expressions = value(self.match_expressions, "matchExpressions")?.unwrap_or_default();
        let expressions = items(expressions, "matchExpressions")?;
        let match_expressions = expressions.into_iter().map(|(at, raw)| raw.check(at));
        Ok(LabelSelector {
            match_labels,
            match_expressions: match_expressions.collect::<Result<_, _>>()?,
        })
    }
}

impl RawRequirement {
    fn check(self, at: Location) -> Result<Requirement, Wrong> {
        let key = needed(self.key, "key", "the condition", at)?;
        refused(at, names::label_key(&key))?;
        let operator = needed(self.operator, "operator", "the condition", at)?;
        let listed = items(value(self.values, "values")?.unwrap_or_default(), "values")?;
        let needs = matches!(operator, Operator::In | Operator::NotIn);
        if needs == listed.is_empty() {
            let why = if needs { "needs values" } else { "takes no values" };
            return wrong(at, format!("operator {operator:?} {why}"));
        }
        let mut values = Vec::new();
        for (at, value) in listed {
            refused(at, names::label_value(&value))?;
            values.push(value);
        }
        Ok(Requirement { key, operator, values })
    }
}

/// Names that a pod rule is for; an empty list would match nothing.
fn pod_names(
    key: Key<Vec<Item<String>>>,
    at: Location,
    name: &str,
) -> Result<Option<Vec<Pattern>>, Wrong> {
    match value(key, name)? {
        Some(globs) if globs.is_empty() => {
            wrong(at, format!("an empty list of {name} matches nothing; leave it out to match all"))
        }
        Some(globs) => patterns(globs, name, names::dns_label).map(Some),
        None => Ok(None),
    }
}

/// Globs of a list, each of which can match something.
fn patterns(
    globs: Vec<Item<String>>,
    name: &str,
    possible: impl Fn(&str) -> Result<(), String>,
) -> Result<Vec<Pattern>, Wrong> {
    let parse = |(at, glob): (Location, String)| {
        let pattern = Pattern::new(&glob)
            .or_else(|error| wrong(at, format!("{glob:?} is no glob: {}", error.msg)))?;
        refused(at, possible(&glob))?;
        Ok(pattern)
    };
    items(globs, name)?.into_iter().map(parse).collect()
}

fn refused(at: Location, checked: Result<(), String>) -> Result<(), Wrong> {
    checked.map_err(|why| Wrong(at, why))
}
