//! ARCHITECTURE.md names the test that holds each invariant. A test that is renamed must take its
//! name there along, else the invariant seems to be held and nothing shows that it is not.

use crate::command::workspace;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Where tests are.
const SOURCES: [&str; 4] = ["herder-agent", "herder-agent-ebpf", "xtask/src", "xtask/guest/src"];

/// What else has a name of at least three words: metrics, tracepoints, sysctls.
const NO_TESTS: [&str; 6] = [
    "herder_build_info",
    "herder_kills_lost_total",
    "herder_kills_unseen_total",
    "oom_score_adj_min",
    "perf_event_paranoid",
    "sched_process_fork",
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Words of the source that stand where a test's name may: after `fn`, and at the beginning of a
/// row of a guest's table of tests.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let functions = text.split("fn ").skip(1);
    let rows = text.lines().map(str::trim_start);
    functions.chain(rows).map(|rest| {
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
    })
}

/// What is written like the name of a test.
fn cited(text: &str) -> BTreeSet<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_name = |word: &&str| {
        let letters = word.bytes();
        word.matches('_').count() >= 2
            && letters
                .into_iter()
                .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
    };
    quoted.filter(is_name).collect()
}

#[test]
fn every_test_that_the_architecture_names_exists() {
    let mut files = Vec::new();
    SOURCES.iter().for_each(|source| sources(&workspace().join(source), &mut files));
    let texts: Vec<_> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let known: BTreeSet<_> = texts.iter().flat_map(|text| names(text)).chain(NO_TESTS).collect();
    let document = fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    let cited = cited(&document);
    assert!(cited.len() > 200, "{}", cited.len());
    let missing: Vec<_> = cited.difference(&known).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(!known.contains("a_burst_then_one_for_each_rest"), "what was there before");
}
