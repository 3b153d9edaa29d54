//! Words that the field says otherwise. The agent reports, logs, counts, exports and restores, and
//! a sentence names its actor: the kernel, the operator, a client.

use super::{source, workspace};

const OLD_WORDS: [&str; 8] =
    ["tell", "tells", "telling", "told", "untold", "somebody", "nobody", "whoever"];

/// What is stored or published under such a name, and so keeps it.
const KEPT: [&str; 7] = [
    // In the state file since the first versions.
    "\"give_back",
    // Keys and kinds in the results of benches.
    "\"nobody looks\"",
    "\"told\"",
    "\"told processes\"",
    "\"told right\"",
    "\"untold\"",
    // The help of a metric, which recordings have too.
    "means kills are told apart",
];

/// This file has to name them.
const HERE: &str = "herder-agent/tests/architecture/words.rs";

/// Each line that has a word for which there is a better one, in names as well as in prose.
fn old_words(file: &str, text: &str) -> Vec<String> {
    let mut text = text.to_owned();
    for kept in KEPT {
        text = text.replace(kept, "");
    }
    let is_old = |line: &&(usize, &str)| {
        let line = line.1.to_lowercase();
        let words: Vec<&str> = line.split(|it: char| !it.is_alphabetic()).collect();
        let puts_back = |two: &[&str]| two[0].starts_with("giv") && two[1] == "back";
        words.iter().any(|word| OLD_WORDS.contains(word)) || words.windows(2).any(puts_back)
    };
    let lines: Vec<_> = text.lines().enumerate().collect();
    let old = lines.iter().filter(is_old);
    old.map(|(at, line)| format!("{file}:{}: {}", at + 1, line.trim())).collect()
}

#[test]
fn words_of_before_stay_away() {
    let mut files = Vec::new();
    for directory in ["herder-agent", "herder-agent-ebpf", "xtask"] {
        files.extend(source::files(&workspace(), directory, true));
    }
    let before = files.len();
    files.retain(|(file, _)| file != HERE);
    assert_eq!(files.len(), before - 1, "{HERE} is somewhere else");
    let old: Vec<_> = files.iter().flat_map(|(file, text)| old_words(file, text)).collect();
    assert!(old.is_empty(), "say it by another word:\n{}", old.join("\n"));
    for kept in KEPT {
        assert!(files.iter().any(|(_, text)| text.contains(kept)), "{kept} is no more: remove it");
    }
}

#[test]
fn a_word_of_before_is_found_in_prose_and_in_names() {
    let text = "/// Nobody knows.\nfn give_back() {}\n#[test]\nfn it_is_told_once() {}\n\
                let told = figure[\"told right\"];\nlet reported = figure[\"told\"];\nstruct Told;\n";
    let lines: Vec<_> = old_words("x.rs", text).iter().map(|it| it[5..6].to_owned()).collect();
    assert_eq!(lines, ["1", "2", "4", "5", "7"]);
}
