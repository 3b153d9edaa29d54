//! `herder-agent check`: reports whether this node has what the agent needs.
//!
//! It changes nothing, but it loads and attaches the programs for a moment, and opens the
//! files that `run` would write: an attempt shows more than any list of capabilities.

mod checks;
mod enforcement;
mod kubelet;

use crate::cli::{args::CheckArgs, telemetry::colours};
use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// The agent works, but not all of it.
    Warn,
    /// The agent does not work.
    Fail,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: &'static str,
    pub outcome: Outcome,
    pub found: String,
    /// How to mend it; empty if there is nothing to mend.
    pub mend: String,
}

fn finding(what: &'static str, outcome: Outcome, found: impl Into<String>, mend: &str) -> Finding {
    Finding { what, outcome, found: found.into(), mend: mend.into() }
}

/// Runs all checks and prints them. 0 if none failed.
pub fn run(args: &CheckArgs) -> ExitCode {
    let findings = checks::all(&args.node);
    let colours = colours();
    // Without a reader there is nothing to do.
    let _ = io::stdout().write_all(Report { findings: &findings, colours }.to_string().as_bytes());
    if failed(&findings) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn failed(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.outcome == Outcome::Fail)
}

struct Report<'a> {
    findings: &'a [Finding],
    colours: bool,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
        for Finding { what, outcome, found, mend } in self.findings {
            let (word, colour) = match outcome {
                Outcome::Ok => ("ok  ", "32"),
                Outcome::Warn => ("warn", "33"),
                Outcome::Fail => ("FAIL", "31"),
            };
            let word =
                if self.colours { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() };
            writeln!(f, "{word}  {what:<width$}  {found}")?;
            if !mend.is_empty() {
                writeln!(f, "      {:<width$}  → {mend}", "")?;
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
        let finding = |what, outcome, mend: &str| Finding {
            what,
            outcome,
            found: "found".into(),
            mend: mend.into(),
        };
        let findings =
            [finding("kernel", Outcome::Ok, ""), finding("BTF", Outcome::Warn, "mend it")];
        let plain = Report { findings: &findings, colours: false }.to_string();
        assert_eq!(plain, "ok    kernel  found\nwarn  BTF     found\n              → mend it\n");
        assert!(!failed(&findings));
        assert!(failed(&[finding("x", Outcome::Fail, "")]));
    }
}
