//! What is wrong with a file's syntax, in words of this file's format instead of those of the
//! library that reads it.

use serde_saphyr::{Error, UserMessageFormatter};

/// What is wrong, and what to write instead. The place is reported separately.
pub(super) fn explained(error: &Error) -> String {
    match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{key}` is there twice; keep one of them")
        }
        Error::DuplicateMappingKey { key: None, .. } => {
            "a key is there twice; keep one of them".into()
        }
        Error::SerdeUnknownField { field, expected, .. } => {
            format!("there is no key {field:?} here; {}", listed("the keys are", expected))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("{variant:?} is none of the words here; {}", listed("write one of", expected))
        }
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("{} is needed here, not {unexpected}", kind(expected))
        }
        Error::Unexpected { expected, .. } => format!("{} is needed here", kind(expected)),
        Error::InvalidScalar { ty: "boolean", .. } => "true or false is needed here".into(),
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | Error::ExpectedStringKeyForExternallyTaggedEnum { .. }
        | Error::UnexpectedValueForUnitEnumVariant { .. }
        | Error::InvalidScalar { .. } => "one word is needed here".into(),
        Error::NullIntoString { .. } => "a text is needed here, and there is none".into(),
        Error::TaggedScalarCannotDeserializeIntoString { .. }
        | Error::UnsupportedTag { .. }
        | Error::TaggedStructFieldName { .. }
        | Error::TaggedEnumMismatch { .. } => "no tag (`!…`) may stand here; remove it".into(),
        Error::MultipleDocuments { .. } => {
            "a second document begins here; only one is read, so remove the line `---`".into()
        }
        Error::Eof { .. } => "the file ends in the middle of a value".into(),
        Error::UnknownAnchor { .. } => "no anchor of this name (`&…`) comes before it".into(),
        Error::AliasError { error, .. } => explained(error),
        Error::MergeValueNotMapOrSeqOfMaps { .. } | Error::MergeKeyNotAllowed { .. } => {
            "`<<` can only take in keys and values".into()
        }
        Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::Budget { .. } => {
            "the file is too large when its anchors are written out, or nested too deep".into()
        }
        other => format!("this is no valid YAML: {}", without_place(other)),
    }
}

fn listed(lead: &str, words: &[&str]) -> String {
    format!("{lead} {}", words.join(", "))
}

/// What serde and the library call a kind of value, as people who write YAML do.
fn kind(expected: &str) -> &str {
    match expected {
        "a sequence" | "sequence" | "sequence start" | "sequence start event" => {
            "a list (`[a, b]`, or a line `- a` for each item)"
        }
        "a map" | "a mapping" | "mapping" | "mapping start" | "mapping start event" => {
            "a mapping (`key: value`)"
        }
        "a string" | "string" | "string scalar" | "scalar" => "a text",
        "option" | "a span-aware newtype wrapper" => "another kind of value",
        other => other,
    }
}

/// What the reader of YAML says, for people who write it.
fn without_place(error: &Error) -> String {
    let text = error.render_with_formatter(&UserMessageFormatter);
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}
