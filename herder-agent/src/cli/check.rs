//! `herder-agent check`: reports whether this node has what the agent needs.
//!
//! It changes nothing, but it loads and attaches the programs for a moment, and opens the
//! files that `run` would write: an attempt shows more than any list of capabilities.

mod arguments;
mod checks;
mod enforcement;
mod escalation;
mod kubelet;
mod shield;

pub use arguments::Authenticates;

use crate::cli::{args::CheckArgs, client::table::safe, telemetry::colours};
use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// As it should be.
    Ok,
    /// The agent works, but not all of it.
    Warn,
    /// The agent does not work.
    Fail,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    outcome: Outcome,
    found: String,
    /// How to mend it; empty if there is nothing to mend.
    mend: String,
}

fn finding(outcome: Outcome, found: impl Into<String>, mend: &str) -> Finding {
    Finding { outcome, found: found.into(), mend: mend.into() }
}

fn ok(found: impl Into<String>) -> Finding {
    finding(Outcome::Ok, found, "")
}

fn warn(found: impl Into<String>, mend: &str) -> Finding {
    finding(Outcome::Warn, found, mend)
}

/// Runs all checks and prints them. 0 if none failed.
pub fn run(args: &CheckArgs, authenticates: Authenticates<'_>) -> ExitCode {
    let findings = checks::all(args, authenticates);
    let colours = colours();
    // Without a reader there is nothing to do.
    let _ = io::stdout().write_all(Report { findings: &findings, colours }.to_string().as_bytes());
    if failed(&findings) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn failed(findings: &[(&str, Finding)]) -> bool {
    findings.iter().any(|(_, finding)| finding.outcome == Outcome::Fail)
}

struct Report<'a> {
    findings: &'a [(&'static str, Finding)],
    colours: bool,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
        for (what, Finding { outcome, found, mend }) in self.findings {
            let (word, colour) = match outcome {
                Outcome::Ok => ("ok  ", "32"),
                Outcome::Warn => ("warn", "33"),
                Outcome::Fail => ("FAIL", "31"),
            };
            let word =
                if self.colours { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() };
            // Names of cgroups and units are whatever their owners have chosen.
            writeln!(f, "{word}  {what:<width$}  {}", safe(found))?;
            if !mend.is_empty() {
                writeln!(f, "      {:<width$}  → {}", "", safe(mend))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned_and_say_how_to_mend() {
        let findings = [("kernel", ok("found")), ("BTF", warn("found", "mend it"))];
        let plain = Report { findings: &findings, colours: false }.to_string();
        assert_eq!(plain, "ok    kernel  found\nwarn  BTF     found\n              → mend it\n");
        assert!(!failed(&findings));
        let named = [("x", ok("/a\u{61c}\u{202e}b"))];
        let plain = Report { findings: &named, colours: false }.to_string();
        assert_eq!(plain, "ok    x  /a\\u{61c}\\u{202e}b\n");
        assert!(failed(&[("x", finding(Outcome::Fail, "found", ""))]));
    }
}
