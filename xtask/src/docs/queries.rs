//! Queries and metrics that documents name: Prometheus must read the queries, and the metrics must
//! be in docs/metrics.md, which a test of the agent holds against what it exports.

use super::documents;
use crate::command::{output, workspace};
use std::{collections::BTreeSet, fs, process::Command};

/// The first column of the tables of docs/metrics.md.
fn metrics() -> BTreeSet<String> {
    let text = fs::read_to_string(workspace().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `herder_")?.split_once('`'));
    rows.map(|(name, _)| format!("herder_{name}")).collect()
}

/// The names of metrics in a text; those of recorded series have a colon, those of crates two.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let words =
        text.split(|letter: char| !(letter.is_ascii_alphanumeric() || "_:".contains(letter)));
    words.filter(|word| word.starts_with("herder_") && !word.contains(':'))
}

#[test]
fn metrics_in_documents_exist() {
    let known = metrics();
    assert!(known.len() > 30, "{}", known.len());
    let exists = |name: &str| {
        let suffixes = ["_bucket", "_count", "_sum"];
        let family = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        known.contains(name)
            || known.contains(family)
            || ["herder_agent", "herder_model"].contains(&name)
    };
    let mut count = 0;
    for (path, text) in documents() {
        for name in named(&text) {
            assert!(exists(name), "{} names {name}", path.display());
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
    assert!(!exists("herder_oom_kills"), "not every name exists");
}

/// Where Prometheus' tools are installed, which `cargo xtask test` sees to.
#[test]
fn queries_in_documents_are_read_by_prometheus() {
    let all = documents();
    let blocks = all.iter().flat_map(|(_, text)| text.split("```promql\n").skip(1));
    let queries: Vec<_> = blocks.filter_map(|rest| Some(rest.split_once("```")?.0)).collect();
    assert!(!queries.is_empty());
    let check = |queries: &[&str]| {
        let rule = |(number, query): (usize, &&str)| {
            format!(
                "  - record: documents:query:{number}\n    expr: |\n      {}\n",
                query.trim().replace('\n', "\n      ")
            )
        };
        let rules: String = queries.iter().enumerate().map(rule).collect();
        let file = output().unwrap().join(format!("queries-{}.yaml", queries.len()));
        fs::write(&file, format!("groups:\n- name: documents\n  rules:\n{rules}")).unwrap();
        let checked = Command::new("promtool").args(["check", "rules"]).arg(&file).output();
        checked.ok().map(|done| done.status.success())
    };
    let Some(read) = check(&queries) else { return };
    assert!(read, "{queries:#?}");
    assert_eq!(check(&[]), Some(true));
    assert_eq!(check(&["rate(x[5m]", "1", "2", "3"]), Some(false), "it does not read everything");
}
