//! Which rule a container falls under, and what it wants. Pure.

use crate::{
    cgroup::CgroupPath,
    escalation::{Escalate, To},
    owner::crun,
    pods::Pod,
    rules::{
        annotation::{self, AnnotationError},
        parse::{
            ANNOTATION_RULE, Config, LabelSelector, OomGroup, Operator, PodAnnotations,
            PodSelector, Requirement, Selects,
        },
    },
};
use glob::{MatchOptions, Pattern};
use std::sync::Arc;

/// No `*`, `?` or `[…]` ever matches a `/`; only `**` stands for any number of components.
const COMPONENTS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// A rule's name and the value it wants; `OomGroup::Leave` never gets here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the rule, a metric label.
    pub rule: Arc<str>,
    /// The value of `memory.oom.group`.
    pub value: bool,
    /// What follows when processes of the container keep dying.
    pub escalate: Option<Escalate>,
    /// The same for a container whose name is not known yet, so that it may be the pod's sandbox:
    /// only for what is known not to be.
    pub escalate_unless_sandbox: Option<Escalate>,
    /// The value is 1 because they did, and not what the rule wants otherwise.
    pub is_raised: bool,
}

impl Target {
    /// A value, whatever is killed.
    pub fn new(rule: Arc<str>, value: bool) -> Self {
        Target { rule, value, escalate: None, escalate_unless_sandbox: None, is_raised: false }
    }
}

/// What is to be decided about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub cgroup: &'a CgroupPath,
    /// The pod whose container it is.
    pub pod: SubjectPod<'a>,
}

/// The pod whose container a cgroup is.
#[derive(Clone, Copy, Debug)]
pub enum SubjectPod<'a> {
    /// It is no container's of a pod, or the pod does not come.
    None,
    /// One that is not known yet, so that any rule for pods may be for it.
    Unknown,
    /// A known one.
    Known(PodSubject<'a>),
}

/// A container of a pod.
#[derive(Clone, Copy, Debug)]
pub struct PodSubject<'a> {
    pub pod: &'a Pod,
    /// Name of the container, if it is known yet.
    pub container: Option<&'a str>,
}

/// What the policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Bring the value to this and keep it there.
    Matched(Target),
    /// A rule says: hands off.
    Leave { rule: Arc<str> },
    /// No rule is for it.
    Unmatched,
    /// The pod's annotation is wrong, so the pod is left alone.
    BadAnnotation(AnnotationError),
}

#[derive(Clone, Debug, Default)]
pub struct Policy(Config);

impl Policy {
    pub fn new(config: Config) -> Self {
        Policy(config)
    }

    /// The names of the rules that want something, as metrics have them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let wanting = self.0.rules.iter().filter(|rule| rule.oom_group != OomGroup::Leave);
        let annotation = self.0.pod_annotations == PodAnnotations::Allow;
        wanting.map(|rule| &*rule.name).chain(annotation.then_some(ANNOTATION_RULE))
    }

    /// Whether a rule wants the init of its containers to be exempt from OOM kills. An annotation
    /// cannot.
    pub fn protects_init(&self, rule: &str) -> bool {
        self.0.rules.iter().any(|it| it.protect_init && &*it.name == rule)
    }

    /// Whether a rule wants the arguments of its containers' victims. An annotation cannot.
    pub fn keeps_arguments(&self, rule: &str) -> bool {
        self.0.rules.iter().any(|it| it.victim_arguments && &*it.name == rule)
    }

    /// Whether any rule does.
    pub fn reads_arguments(&self) -> bool {
        self.0.rules.iter().any(|rule| rule.victim_arguments)
    }

    /// Whether all containers whose rule wanted arguments `before` are still under one that does. An
    /// earlier rule may have taken them, so all rules up to the last that wants some are compared.
    pub fn still_asks(&self, before: &Policy) -> bool {
        let (now, before) = (&self.0.rules, &before.0.rules);
        let last = before.iter().rposition(|rule| rule.victim_arguments);
        let compared = last.map_or(0, |last| last + 1);
        now.len() >= compared
            && now.iter().zip(before).take(compared).all(|(now, before)| {
                now.selects == before.selects && now.victim_arguments == before.victim_arguments
            })
    }

    /// What rules escalate to, by their names; pods may ask for either.
    pub fn escalations(&self) -> impl Iterator<Item = (&str, To)> {
        let rules = &self.0.rules;
        let rules = rules.iter().filter_map(|rule| Some((&*rule.name, rule.escalate?.to())));
        let annotation = self.0.pod_annotations == PodAnnotations::Allow;
        let annotation = To::ALL.into_iter().filter(move |_| annotation);
        rules.chain(annotation.map(|to| (ANNOTATION_RULE, to)))
    }

    /// The first rule that matches decides, then the pod's annotations.
    pub fn decide(&self, subject: &Subject<'_>) -> Verdict {
        for rule in &self.0.rules {
            let selected = match &rule.selects {
                Selects::Cgroups(globs) => Some(selects_cgroup(globs, subject.cgroup)),
                Selects::Pods(pods) => match subject.pod {
                    SubjectPod::None => Some(false),
                    SubjectPod::Unknown => None,
                    SubjectPod::Known(pod) => selects_pod(pods, pod),
                },
            };
            match selected {
                Some(true) => return verdict(&rule.name, rule.oom_group, rule.escalate),
                Some(false) => {}
                // A later rule must not come before this one.
                None => return Verdict::Unmatched,
            }
        }
        let (SubjectPod::Known(pod), PodAnnotations::Allow) = (subject.pod, self.0.pod_annotations)
        else {
            return Verdict::Unmatched;
        };
        let (of, texts) = (pod.container.unwrap_or_default(), pod.pod);
        match annotation::all(texts.oom_group.as_deref(), texts.oom_escalate.as_deref(), of) {
            Ok((Some(oom_group), escalate)) => {
                verdict(&Arc::from(ANNOTATION_RULE), oom_group, escalate)
            }
            Ok((None, _)) => Verdict::Unmatched,
            Err(error) => Verdict::BadAnnotation(error),
        }
    }
}

fn verdict(rule: &Arc<str>, oom_group: OomGroup, escalate: Option<Escalate>) -> Verdict {
    let rule = rule.clone();
    match oom_group {
        OomGroup::SingleProcess => {
            Verdict::Matched(Target { escalate, ..Target::new(rule, false) })
        }
        OomGroup::Group => Verdict::Matched(Target::new(rule, true)),
        OomGroup::Leave => Verdict::Leave { rule },
    }
}

/// The root has no `memory.oom.group` and is no container.
fn selects_cgroup(globs: &[Pattern], cgroup: &CgroupPath) -> bool {
    let matches = |path: &CgroupPath| {
        path.as_str() != "/"
            && globs.iter().any(|glob| glob.matches_with(path.as_str(), COMPONENTS))
    };
    matches(cgroup) || crun::scope(cgroup).is_some_and(|scope| matches(&scope))
}

/// None as long as it depends on what is not known: the container's name, or
/// labels that were too many to keep.
fn selects_pod(pods: &PodSelector, pod: PodSubject<'_>) -> Option<bool> {
    let any = |globs: &[Pattern], name: &str| {
        globs.iter().any(|glob| glob.matches_with(name, COMPONENTS))
    };
    let namespace = pods.namespaces.as_ref().is_none_or(|globs| any(globs, &pod.pod.namespace));
    let container = match (&pods.containers, pod.container) {
        (None, _) => Some(true),
        (Some(globs), Some(name)) => Some(any(globs, name)),
        // Whatever the name will be, `*` matches it.
        (Some(globs), None) => globs.iter().any(|glob| glob.as_str() == "*").then_some(true),
    };
    let parts = [Some(namespace), container, selects_labels(&pods.selector, pod.pod)];
    if parts.contains(&Some(false)) {
        return Some(false);
    }
    parts.iter().all(Option::is_some).then_some(true)
}

/// `LabelSelectorAsSelector()`, k8s.io/apimachinery/pkg/apis/meta/v1/helpers.go.
fn selects_labels(selector: &LabelSelector, pod: &Pod) -> Option<bool> {
    let LabelSelector { match_labels, match_expressions } = selector;
    if match_labels.is_empty() && match_expressions.is_empty() {
        return Some(true);
    }
    pod.labels.as_ref()?;
    let holds = |Requirement { key, operator, values }: &Requirement| {
        let value = pod.label(key);
        let listed = |value: &str| values.iter().any(|listed| listed == value);
        match operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    };
    let all = match_labels.iter().all(|(key, value)| pod.label(key) == Some(value));
    Some(all && match_expressions.iter().all(holds))
}

#[cfg(test)]
mod tests;
