//! Everything that reads bytes from outside, with damaged inputs.
//!
//! Each directory of `corpus/` belongs to a target of the same name. Its files are
//! tried as they are, then a fixed number of mutations of them: the same in every
//! run, a few seconds in all. `HERDER_FUZZ_SECONDS=600 cargo test --test fuzz`
//! goes on with other ones for so long, for each target. An input that fails is
//! written to a file, which then belongs into the corpus.
//!
//! `../fuzz` has the same targets for libFuzzer, which looks at what an input reaches and
//! so finds more (`RUSTC_BOOTSTRAP=1 cargo fuzz run btf tests/corpus/btf`); to build it takes
//! longer than the rest of CI's builds together, so it is not a part of that.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what went wrong by panicking, their helpers too"
)]

#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/targets.rs"]
mod targets;

use mutate::Mutator;
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

/// No input may take longer. Most take microseconds; tests run beside others.
const LONGEST: Duration = Duration::from_secs(5);

/// Tries a corpus, and so many mutations of it.
fn fuzz(name: &str, mutations: u32, target: impl Fn(&[u8])) {
    let corpus = corpus(name);
    corpus.iter().for_each(|input| attempt(name, input, &target));
    let mut mutator = Mutator::new(corpus.clone(), 0x9e37_79b9_7f4a_7c15);
    (0..mutations).for_each(|_| attempt(name, &mutator.next(), &target));
    let Ok(seconds) = std::env::var("HERDER_FUZZ_SECONDS") else { return };
    let end = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut mutator = Mutator::new(corpus, u64::from(now.subsec_nanos()) | 1);
    while Instant::now() < end {
        attempt(name, &mutator.next(), &target);
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut paths: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

fn attempt(name: &str, input: &[u8], target: &impl Fn(&[u8])) {
    let began = Instant::now();
    let whole = catch_unwind(AssertUnwindSafe(|| target(input))).is_ok();
    let took = began.elapsed();
    if !whole || took > LONGEST {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        fs::write(&file, input).unwrap();
        panic!("{name} fails, or took {took:?}, with the input in {}", file.display());
    }
}

#[test]
fn path() {
    fuzz("path", 20_000, targets::path);
}

#[test]
fn annotation() {
    fuzz("annotation", 20_000, targets::annotation);
}

#[test]
fn record() {
    fuzz("record", 50_000, targets::record);
}

#[test]
fn btf() {
    fuzz("btf", 5_000, targets::btf);
}

#[test]
fn config() {
    fuzz("config", 2_000, targets::config);
}

#[test]
fn pod() {
    fuzz("pod", 2_000, targets::pod);
}

#[test]
fn watch() {
    fuzz("watch", 2_000, targets::watch);
}

#[test]
fn nri() {
    fuzz("nri", 20_000, targets::nri);
}

#[test]
fn libfuzzer_has_the_same_targets() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    for (name, _) in targets::READ {
        let text = fs::read_to_string(directory.join(format!("{name}.rs"))).unwrap();
        assert!(text.contains(&format!("targets::{name}(input)")), "{name}");
    }
    assert_eq!(fs::read_dir(directory).unwrap().count(), targets::READ.len());
}

/// Mutations that break everything at once would try nothing but the first check.
#[test]
fn mutations_reach_what_is_behind_the_first_check() {
    for (name, is_read) in targets::READ {
        let mut mutator = Mutator::new(corpus(name), 1);
        let count = (0..2000).filter(|_| is_read(&mutator.next())).count();
        assert!((40..2000).contains(&count), "{name}: {count} of 2000 are read");
    }
}
