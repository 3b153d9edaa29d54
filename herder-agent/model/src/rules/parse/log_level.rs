//! The log level, as the configuration file and `--log-level` have it.
//!
//! What reads it for the log (`tracing`'s filter) takes any other word for the name of a module.
//! `inof` would then end the log, and no error would say so. So the words are checked here.

use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

/// From silence to everything.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Longest one, bytes: it is a metric label.
const LONGEST: usize = 512;

/// A level for all modules, and others for some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(Arc<str>);

/// Why a text is no log level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadLogLevel(String);

impl LogLevel {
    /// `info`, or `info,herder_agent::enforce=debug`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogLevel {
    fn default() -> Self {
        LogLevel("info".into())
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for LogLevel {
    type Err = BadLogLevel;

    fn from_str(text: &str) -> Result<Self, BadLogLevel> {
        let bad = |why: String| Err(BadLogLevel(why));
        if text.len() > LONGEST {
            return bad(format!(
                "a log level has at most {LONGEST} bytes, this one {}",
                text.len()
            ));
        }
        let mut modules = BTreeSet::new();
        let mut parts = Vec::new();
        for part in text.split(',') {
            let (module, level) = match part.split_once('=') {
                Some((module, level)) => (Some(module), level),
                None => (None, part),
            };
            let (module, level) = (module.map(str::trim), level.trim().to_ascii_lowercase());
            if !LEVELS.contains(&&*level) {
                let levels = LEVELS.join(", ");
                return bad(format!("{level:?} is no log level; write one of {levels}"));
            }
            if module.is_some_and(|module| !is_module(module)) {
                let why = "is no module of a program, such as herder_agent::enforce";
                return bad(format!("{:?} {why}", module.unwrap_or_default()));
            }
            if !modules.insert(module) {
                let what = module.map_or_else(|| "all modules".into(), |it| format!("{it:?}"));
                return bad(format!("there are two log levels for {what}; keep one of them"));
            }
            parts.push(module.map_or(level.clone(), |module| format!("{module}={level}")));
        }
        if !modules.contains(&None) {
            return bad(format!("no log level is for all other modules; write \"info,{text}\""));
        }
        Ok(LogLevel(parts.join(",").into()))
    }
}

fn is_module(text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split("::").all(|name| !name.is_empty() && name.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_for_all_and_others_for_some() {
        for text in ["info", "off", "trace", "warn,kube_client=debug", "a::b_2=off,error,c=trace"] {
            assert_eq!(text.parse::<LogLevel>().unwrap().as_str(), text);
        }
        assert_eq!(LogLevel::default(), "info".parse().unwrap());
        let spaced: LogLevel = " Info , kube_client = DEBUG".parse().unwrap();
        assert_eq!(spaced.as_str(), "info,kube_client=debug");
    }

    #[test]
    fn what_would_end_the_log_is_rejected_with_what_to_write() {
        for (text, word) in [
            ("inof", "one of off, error"),
            ("", "\"\" is no log level"),
            ("info,", "\"\" is no log level"),
            ("5", "one of off, error"),
            ("info,kube", "\"kube\" is no log level"),
            ("info,kube=loud", "\"loud\" is no log level"),
            ("info,a:b=debug", "\"a:b\" is no module"),
            ("info,=debug", "\"\" is no module"),
            ("info,a[b]=debug", "no module"),
            ("info,debug", "two log levels for all modules"),
            ("info,a=debug,a=warn", "two log levels for \"a\""),
            ("herder_agent=debug", "write \"info,herder_agent=debug\""),
            (&"x".repeat(513), "at most 512 bytes, this one 513"),
        ] {
            let error = text.parse::<LogLevel>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
