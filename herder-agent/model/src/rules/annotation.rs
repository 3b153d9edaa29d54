//! The values of a pod's annotations. `herder.dev/oom-group` has one word for all of its
//! containers, or `name=word` for some, separated by commas; `herder.dev/oom-escalate` what follows
//! when processes of those in single-process mode keep dying.

use crate::{
    escalation::{Escalate, EscalateError},
    pods::{LONGEST_ANNOTATION, OOM_ESCALATE_ANNOTATION, OOM_GROUP_ANNOTATION},
    rules::parse::OomGroup,
    text::shortened,
};

/// Why an annotation cannot be followed. Shown to the pod's owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    #[error("{0:?} is none of single-process, group, leave")]
    Word(String),
    #[error("{0:?} is not of the form container=single-process|group|leave")]
    Part(String),
    #[error("it is longer than {LONGEST_ANNOTATION} bytes")]
    Long,
    #[error("container {0:?} is named twice")]
    Twice(String),
    /// `herder.dev/oom-escalate` has no value that can be followed.
    #[error(transparent)]
    Escalate(#[from] EscalateError),
    /// It has one, and nothing puts a container into single-process mode.
    #[error("it has no effect without {OOM_GROUP_ANNOTATION}: single-process")]
    Alone,
}

impl AnnotationError {
    /// The annotation that is wrong.
    pub fn annotation(&self) -> &'static str {
        match self {
            Self::Word(_) | Self::Part(_) | Self::Long | Self::Twice(_) => OOM_GROUP_ANNOTATION,
            Self::Escalate(_) | Self::Alone => OOM_ESCALATE_ANNOTATION,
        }
    }
}

/// What both annotations want for a container: its mode, and what follows when its processes keep
/// dying. Both texts are checked as a whole, whichever container is asked for.
pub fn all(
    oom_group: Option<&str>,
    escalate: Option<&str>,
    container: &str,
) -> Result<(Option<OomGroup>, Option<Escalate>), AnnotationError> {
    let mode = oom_group.map(|text| wanted(text, container)).transpose()?.flatten();
    let escalate = escalate.map(Escalate::parse).transpose()?;
    if escalate.is_some() && oom_group.is_none() {
        return Err(AnnotationError::Alone);
    }
    Ok((mode, escalate))
}

/// What the annotation wants for a container; nothing if it does not name it.
/// The whole text is checked, so that a typing error is reported at once and not
/// only when the container it is about comes up.
pub fn wanted(text: &str, container: &str) -> Result<Option<OomGroup>, AnnotationError> {
    if text.len() > LONGEST_ANNOTATION {
        return Err(AnnotationError::Long);
    }
    if !text.contains(['=', ',']) {
        return word(text.trim()).map(Some);
    }
    let mut named: Vec<(&str, OomGroup)> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (name, value) = part
            .split_once('=')
            .filter(|(name, _)| !name.trim().is_empty())
            .ok_or_else(|| AnnotationError::Part(shortened(part)))?;
        let (name, value) = (name.trim(), word(value.trim())?);
        if named.iter().any(|(known, _)| *known == name) {
            return Err(AnnotationError::Twice(shortened(name)));
        }
        named.push((name, value));
    }
    Ok(named.into_iter().find(|(name, _)| *name == container).map(|(_, value)| value))
}

fn word(text: &str) -> Result<OomGroup, AnnotationError> {
    match text {
        "single-process" => Ok(OomGroup::SingleProcess),
        "group" => Ok(OomGroup::Group),
        "leave" => Ok(OomGroup::Leave),
        other => Err(AnnotationError::Word(shortened(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_length_takes_little_time() {
        let long = "a=leave,".repeat(LONGEST_ANNOTATION);
        assert_eq!(wanted(&long, "a"), Err(AnnotationError::Long));
    }

    #[test]
    fn words_and_lists() {
        let single = Ok(Some(OomGroup::SingleProcess));
        let table = [
            ("single-process", single.clone()),
            (" single-process ", single.clone()),
            ("leave", Ok(Some(OomGroup::Leave))),
            ("worker=single-process,sidecar=group", single.clone()),
            ("sidecar=group, worker = single-process", single),
            ("sidecar=group", Ok(None)),
            ("", Err(AnnotationError::Word(String::new()))),
            ("Group", Err(AnnotationError::Word("Group".into()))),
            ("worker=yes", Err(AnnotationError::Word("yes".into()))),
            ("worker=group,", Err(AnnotationError::Part(String::new()))),
            ("=group", Err(AnnotationError::Part("=group".into()))),
            ("sidecar=group,typo", Err(AnnotationError::Part("typo".into()))),
            ("worker=group,worker=leave", Err(AnnotationError::Twice("worker".into()))),
        ];
        for (text, expected) in table {
            assert_eq!(wanted(text, "worker"), expected, "{text:?}");
        }
    }

    #[test]
    fn an_escalation_goes_with_a_mode_and_each_error_says_whose_it_is() {
        let escalate = Some(Escalate::parse("3/5m=restart").unwrap());
        let text = Some("3/5m=restart");
        let table = [
            (None, None, Ok((None, None))),
            (Some("single-process"), text, Ok((Some(OomGroup::SingleProcess), escalate))),
            (Some("other=single-process"), text, Ok((None, escalate))),
            (Some("group"), text, Ok((Some(OomGroup::Group), escalate))),
            (None, text, Err(OOM_ESCALATE_ANNOTATION)),
            (Some("single-process"), Some("3/5m=kill"), Err(OOM_ESCALATE_ANNOTATION)),
            (Some("nonsense"), text, Err(OOM_GROUP_ANNOTATION)),
        ];
        for (mode, escalate, expected) in table {
            let found = all(mode, escalate, "worker").map_err(|error| error.annotation());
            assert_eq!(found, expected, "{mode:?} {escalate:?}");
        }
    }

    #[test]
    fn a_huge_value_is_cut_in_the_message() {
        let error = wanted(&"x".repeat(200_000), "worker").unwrap_err();
        assert!(error.to_string().len() < 200);
    }
}
