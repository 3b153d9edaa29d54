//! The plan of the house, held against the source: which room may import which, who may name which
//! crate, no circles, no long files. ARCHITECTURE.md says why.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by panicking"
)]

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/words.rs"]
mod words;

use source::{Source, read_all};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The rooms of herder-agent, the ground floor first, and which of those before it each may
/// import. All may import herder-model, which knows none of them.
const ROOMS: [(&str, &[&str]); 10] = [
    ("kernel", &[]),
    ("kubernetes", &[]),
    ("runtime", &[]),
    // A file of the agent's own, which needs no other room.
    ("state", &[]),
    ("enforce", &["kernel"]),
    // Only their words: what it logs and counts.
    ("report", &["kernel", "kubernetes", "runtime", "enforce"]),
    // `check` tries the enforcement by a dry run of it.
    ("cli", &["kernel", "enforce"]),
    ("serve", &["enforce", "report"]),
    ("core", &["kernel", "kubernetes", "runtime", "state", "enforce", "report"]),
    // Wires all of them; only the program starts it.
    (
        "agent",
        &["kernel", "kubernetes", "runtime", "state", "enforce", "report", "cli", "serve", "core"],
    ),
];

/// Who may name which crate, or what of one: modules with all that lies below them.
const CRATES: [(&str, &[&str]); 14] = [
    ("aya", &["kernel::probe"]),
    ("aya_log", &["kernel::probe"]),
    ("clap", &["cli::args", ""]),
    ("flate2", &["serve"]),
    ("hyper", &["serve", "cli::client", "kubernetes"]),
    ("kube", &["kubernetes::client", "kubernetes::pods"]),
    ("libc", &["kernel::process", "serve::socket::unsent"]),
    ("prometheus", &["report::metrics"]),
    ("prost", &["runtime::nri"]),
    ("rustls", &["serve", "cli::client", "kubernetes::client"]),
    // The core and what it owns have the time of `kernel::clock`, which a test moves. Others are
    // threads and tasks of their own.
    ("std::time::Instant", &["enforce::shield"]),
    (
        "tokio::time::Instant",
        &["core::run", "enforce::shield", "kubernetes", "report::heartbeat", "runtime", "serve"],
    ),
    ("tokio_rustls", &["serve", "cli::client"]),
    ("webpki", &["serve::access"]),
];

/// What herder-model never names: it does no IO and has no clock.
const NOT_IN_MODEL: [&str; 22] = [
    "aya",
    "bytes",
    "futures_util",
    "herder_agent",
    "hyper",
    "hyper_util",
    "k8s_openapi",
    "kube",
    "libc",
    "log",
    "prometheus",
    "prost",
    "rustix",
    "rustls",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "tokio",
    "tracing",
];

/// All that herder-model depends on.
const MODEL_DEPENDS_ON: [&str; 7] =
    ["glob", "herder-agent-ebpf", "jiff", "serde", "serde-saphyr", "thiserror", "serde_json"];

/// Crates of the workspace in which no modules import each other in a circle.
const CRATES_WITHOUT_CIRCLES: [&str; 7] = [
    "herder-agent/src",
    "herder-agent/kubectl/src",
    "herder-agent/model/src",
    "herder-agent-ebpf/src",
    "xtask/src",
    "xtask/guest/src",
    "xtask/hog/src",
];

/// Most lines of a file.
const LONGEST: usize = 400;

/// What is not yet as it should be, each with the reason.
mod known {
    /// `from -> to` of rooms.
    pub(crate) const ARROWS: &[&str] = &[];

    /// The crate of each circle, and one of its modules.
    pub(crate) const CIRCLES: &[(&str, &str)] = &[];

    /// Files.
    pub(crate) const LONG: &[&str] = &[];
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Each import that goes up, as `from -> to` and where it stands.
fn upward(sources: &[Source]) -> Vec<(String, String)> {
    let rooms: Vec<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    let mut found = Vec::new();
    for source in sources {
        // The crate's root, and the program, may name all.
        let Some(room) = source.module.first() else { continue };
        let allowed = ROOMS.iter().find(|(name, _)| name == room).map(|(_, allowed)| *allowed);
        let allowed = allowed.unwrap_or_else(|| panic!("{room} is no room of this house"));
        for (name, path) in source.own() {
            let Some(to) = path.first().filter(|to| rooms.contains(&to.as_str())) else { continue };
            if to != room && !allowed.contains(&to.as_str()) {
                let place = format!("{}:{}: {}", source.file, name.line, path.join("::"));
                found.push((format!("{room} -> {to}"), place));
            }
        }
    }
    found
}

/// Each of these that is named where it may not be.
fn misnamed(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let module = source.module.join("::");
        for name in &source.names {
            let path = name.path.join("::");
            let Some((what, places)) = CRATES.iter().find(|(it, _)| is_in(&path, it)) else {
                continue;
            };
            let within = |place: &&str| {
                if place.is_empty() { module.is_empty() } else { is_in(&module, place) }
            };
            if !places.iter().any(within) {
                found.push(format!("{}:{}: names {what}", source.file, name.line));
            }
        }
    }
    found
}

/// Whether a path is another one or lies in it.
fn is_in(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Each name in herder-model that it must not know.
fn impure(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for name in &source.names {
            let path = name.path.join("::");
            if let Some(banned) = NOT_IN_MODEL.iter().find(|banned| is_in(&path, banned)) {
                found.push(format!("{}:{}: names {banned}", source.file, name.line));
            }
        }
    }
    found
}

fn agent() -> Vec<Source> {
    read_all(&workspace(), "herder-agent/src")
}

#[test]
fn imports_point_downwards() {
    for (at, (room, allowed)) in ROOMS.iter().enumerate() {
        let below: Vec<&str> = ROOMS[..at].iter().map(|(below, _)| *below).collect();
        assert!(allowed.iter().all(|to| below.contains(to)), "{room} stands below what it imports");
    }
    let found = upward(&agent());
    let known = |arrow: &String| known::ARROWS.contains(&arrow.as_str());
    let new: Vec<_> = found.iter().filter(|(arrow, _)| !known(arrow)).collect();
    assert!(new.is_empty(), "imports that no room may have:\n{new:#?}");
    let gone = known::ARROWS.iter().find(|known| !found.iter().any(|(arrow, _)| arrow == *known));
    assert_eq!(gone, None, "it is known no more: remove it from the list");
}

#[test]
fn each_crate_is_named_where_it_belongs() {
    assert_eq!(misnamed(&agent()), [""; 0]);
}

#[test]
fn the_model_does_no_io_and_has_no_clock() {
    assert_eq!(impure(&read_all(&workspace(), "herder-agent/model/src")), [""; 0]);
    let manifest = workspace().join("herder-agent/model/Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    let dependencies: BTreeSet<&str> =
        manifest.lines().filter_map(|line| line.strip_suffix(".workspace = true")).collect();
    let allowed: BTreeSet<&str> = MODEL_DEPENDS_ON.into();
    let of_package = ["version", "edition", "rust-version", "license"];
    let dependencies: Vec<_> = dependencies.difference(&allowed).collect();
    assert!(dependencies.iter().all(|it| of_package.contains(it)), "{dependencies:?}");
}

#[test]
fn no_modules_import_each_other() {
    let mut known = BTreeSet::new();
    let mut new = Vec::new();
    for krate in CRATES_WITHOUT_CIRCLES {
        for (circle, places) in circles::circles(&read_all(&workspace(), krate)) {
            let is_in = |module: &str| circle.contains(module);
            let known_as = |it: &&(&str, &str)| it.0 == krate && is_in(it.1);
            match known::CIRCLES.iter().find(known_as) {
                Some(it) => _ = known.insert(*it),
                None => new.push(format!("{krate}: {circle:?}\n  {places}")),
            }
        }
    }
    assert!(new.is_empty(), "modules that import each other:\n{}", new.join("\n"));
    assert_eq!(known.len(), known::CIRCLES.len(), "some are known no more: {known:?}");
}

#[test]
fn no_file_is_longer_than_can_be_read() {
    let mut long = BTreeSet::new();
    for directory in ["herder-agent", "herder-agent-ebpf", "xtask"] {
        for (file, text) in source::files(&workspace(), directory, true) {
            if text.lines().count() > LONGEST {
                long.insert(file);
            }
        }
    }
    let known: BTreeSet<String> = known::LONG.iter().map(|it| (*it).to_owned()).collect();
    assert_eq!(long, known, "files of more than {LONGEST} lines, and those that are known");
}

/// What ARCHITECTURE.md's table "Where is …?" names and is not in the files that stand beside it.
fn misplaced(table: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| ")) {
        let named: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let files = named.iter().filter(|name| name.ends_with(".rs"));
        let mut text = String::new();
        for file in files {
            match fs::read_to_string(workspace().join("herder-agent").join(file)) {
                Ok(read) => text += &read,
                Err(error) => wrong.push(format!("{file}: {error}")),
            }
        }
        for function in named.iter().filter_map(|name| name.strip_suffix("()")) {
            let function = function.rsplit("::").next().unwrap();
            if !text.contains(&format!("fn {function}(")) {
                wrong.push(format!("{function}() is in no file of this row: {row}"));
            }
        }
    }
    wrong
}

#[test]
fn what_is_looked_for_is_where_the_table_says() {
    let text = fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    let table = text.split_once("\n## Where is …?\n").unwrap().1.split("\n## ").next().unwrap();
    assert!(table.lines().filter(|line| line.starts_with("| ")).count() > 10);
    assert_eq!(misplaced(table), [""; 0]);
    assert_eq!(misplaced("| x | `src/nowhere.rs` | `f()` |").len(), 2);
}

#[test]
fn an_arrow_that_is_turned_is_reported_with_its_place() {
    let file = |module: &str, text: &str| {
        [Source::of(&format!("herder-agent/src/{module}"), module, text)]
    };
    let turned = file(
        "enforce/watch.rs",
        "//! Why.\nuse crate::{\n    kernel::clock,\n    report::Reporter,\n};\n",
    );
    let expected = (
        "enforce -> report".into(),
        "herder-agent/src/enforce/watch.rs:4: report::Reporter".into(),
    );
    assert_eq!(upward(&turned), [expected]);
    let inline = file("runtime/nri.rs", "fn f() { super::super::kubernetes::pods::watch(); }");
    assert_eq!(upward(&inline)[0].0, "runtime -> kubernetes");
    assert_eq!(upward(&file("core/loop.rs", "use crate::report::Reporter;")), []);
    let aya = file("core.rs", "\nuse aya::Ebpf;");
    assert_eq!(misnamed(&aya), ["herder-agent/src/core.rs:2: names aya"]);
    assert_eq!(misnamed(&file("kernel/probe/decode.rs", "use aya::Ebpf;")), [""; 0]);
    let time = file("core/kills.rs", "use std::time::{Duration, Instant};");
    assert_eq!(misnamed(&time), ["herder-agent/src/core/kills.rs:1: names std::time::Instant"]);
    let clock =
        file("x.rs", "use std::{fmt, time::{Duration, Instant}};\nfn f() { tokio::spawn(); }");
    assert_eq!(
        impure(&clock),
        [
            "herder-agent/src/x.rs:1: names std::time::Instant",
            "herder-agent/src/x.rs:2: names tokio"
        ]
    );
}
