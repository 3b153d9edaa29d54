//! What the documentation claims and a program can check: links lead somewhere, flags and keys are
//! those that exist, alerts lead to a heading of the runbook; and its code blocks are read by the
//! programs that they are for (`commands`, `configs`, `queries`).

mod commands;
mod configs;
#[path = "../../herder-agent/kubectl/src/args.rs"]
#[expect(dead_code, reason = "only its parser is of interest here")]
mod kubectl;
mod messages;
mod queries;
mod tests_of_invariants;

use crate::command::workspace;
use clap::CommandFactory;
use herder_agent::cli::args::Cli;
use herder_model::rules::parse::Config;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Where documents are; those of tests and of the build are not for people.
const PLACES: [&str; 6] = ["", "docs", "deploy", "deploy/helm/herder", "dashboards", "xtask"];

/// Flags of other programs that documents name.
const OTHERS: &[&str] = &[
    "all",    // skopeo's
    "from",   // of a Dockerfile
    "strict", // sha256sum's
    "field-selector",
    "signature",
    "insecure-ignore-tlog",
    "bench",
    "cgroup-root", // the kubelet's own, too
    "detach",
    "dry-run",
    "manifest", // krew's
    "namespace",
    "now",
    "reset-then-reuse-values", // helm's
    "set-json",
    "release", // cargo's
    "order",
    "runtime",
    "set",
    "test",
    "workers",
    "workspace",
];

/// Path and text of each document.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for place in PLACES {
        for entry in fs::read_dir(workspace().join(place)).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// The text without its code blocks.
fn prose(text: &str) -> String {
    let parts = text.split("```").enumerate();
    parts.filter(|(number, _)| number % 2 == 0).map(|(_, part)| part).collect()
}

/// What GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let lines = prose(text);
    let headings = lines.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

/// The targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let after = prose.split("](").skip(1);
    after.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

fn broken(from: &Path, link: &str, own: &str) -> Option<String> {
    if link.contains("://") {
        return None;
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let path = from.parent()?.join(file);
    if !file.is_empty() && !path.exists() {
        return Some(format!("{}: {link} leads nowhere", from.display()));
    }
    let text = if file.is_empty() { own.to_owned() } else { fs::read_to_string(&path).ok()? };
    let known = heading.is_empty() || anchors(&text).contains(heading);
    (!known).then(|| format!("{}: {link} has no such heading", from.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() > 15, "{}", documents.len());
    let all = documents.iter().flat_map(|(path, text)| {
        links(text).into_iter().filter_map(move |link| broken(path, &link, text))
    });
    let all: Vec<_> = all.collect();
    assert!(all.is_empty(), "{all:#?}");
    let readme = workspace().join("README.md");
    assert!(broken(&readme, "docs/nowhere.md", "").is_some());
    assert!(broken(&readme, "docs/rules.md#nowhere", "").is_some());
    assert!(broken(&readme, "docs/rules.md#keys", "").is_none());
}

/// A merge that takes a section from both sides leaves it twice.
fn sections_that_come_twice(text: &str) -> Vec<String> {
    let prose = prose(text);
    let mut seen = BTreeSet::new();
    let headings = prose.lines().filter(|line| line.starts_with("## "));
    headings.filter(|line| !seen.insert(anchor(line))).map(str::to_owned).collect()
}

#[test]
fn no_section_comes_twice() {
    for (path, text) in documents() {
        assert_eq!(sections_that_come_twice(&text), [""; 0], "{}", path.display());
    }
    assert_eq!(sections_that_come_twice("## A b\n### C\n## a B\n### C\n"), ["## a B"]);
}

#[test]
fn every_alert_has_a_heading_in_the_runbook() {
    let alerts = fs::read_to_string(workspace().join("dashboards/alerts.yaml")).unwrap();
    let runbook = anchors(&fs::read_to_string(workspace().join("docs/runbook.md")).unwrap());
    let urls = alerts.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: "));
    let mut count = 0;
    for url in urls {
        let (_, heading) = url.split_once("docs/runbook.md#").expect(url);
        assert!(runbook.contains(heading), "{url}");
        count += 1;
    }
    assert!(count > 8 && count == alerts.matches("- alert:").count());
}

/// Every key of a rule has a row, and every row is a key that the agent knows.
#[test]
fn the_table_of_keys_is_that_of_the_agent() {
    const TOP: [&str; 2] = ["podAnnotations", "logLevel"];
    let text = fs::read_to_string(workspace().join("docs/rules.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let rows: BTreeSet<_> =
        rows.filter(|row| row.starts_with("rules") || TOP.contains(row)).collect();
    let keys = [
        "rules",
        "rules[].name",
        "rules[].oomGroup",
        "rules[].protectInit",
        "rules[].victimArguments",
        "rules[].cgroups",
        "rules[].pods",
        "rules[].pods.namespaces",
        "rules[].pods.selector",
        "rules[].pods.selector.matchLabels",
        "rules[].pods.selector.matchExpressions",
        "rules[].pods.containers",
        "rules[].escalate",
        "rules[].escalate.after",
        "rules[].escalate.within",
        "rules[].escalate.to",
        "podAnnotations",
        "logLevel",
    ];
    assert_eq!(rows, keys.into_iter().collect());
    // What the agent says that it knows, at each level.
    let known = |text: &str| Config::parse(text, "x").unwrap_err().to_string();
    let error = known("x: 1")
        + &known("rules: [{x: 1}]")
        + &known("rules: [{pods: {x: 1}}]")
        + &known("rules: [{pods: {selector: {x: 1}}}]")
        + &known("rules: [{escalate: {x: 1}}]");
    for key in keys {
        let name = key.rsplit(['.', ']']).next().unwrap();
        assert!(error.contains(name), "{name}: {error}");
    }
    for name in error.split("the keys are ").skip(1).flat_map(|rest| {
        rest.split("x:").next().unwrap_or_default().split(", ").map(str::trim).collect::<Vec<_>>()
    }) {
        assert!(keys.iter().any(|key| key.ends_with(name)), "{name} has no row");
    }
}

/// A flag that a document names is one of the agent's, of xtask's, or another program's.
#[test]
fn flags_in_documents_exist() {
    fn all(command: &clap::Command, flags: &mut BTreeSet<String>) {
        flags.extend(command.get_arguments().filter_map(|it| it.get_long()).map(str::to_owned));
        command.get_subcommands().for_each(|below| all(below, flags));
    }
    let mut flags: BTreeSet<String> = OTHERS.iter().map(|flag| (*flag).to_owned()).collect();
    all(&Cli::command(), &mut flags);
    all(&crate::Cli::command(), &mut flags);
    all(&kubectl::Cli::command(), &mut flags);
    for (path, text) in documents() {
        for word in text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-')) {
            let Some(flag) =
                word.strip_prefix("--").filter(|flag| flag.len() > 1 && !flag.starts_with('-'))
            else {
                continue;
            };
            assert!(flags.contains(flag), "{} names --{flag}", path.display());
        }
    }
}
