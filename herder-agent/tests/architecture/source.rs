//! What a source file names: by its text, without comments, strings and tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A source file, as far as it is looked at here.
pub(crate) struct Source {
    /// Where it is, from the workspace's root on.
    pub(crate) file: String,
    /// Its module, from the crate's root on.
    pub(crate) module: Vec<String>,
    pub(crate) names: Vec<Name>,
}

/// A path that is named somewhere, or brought into scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
    /// The name that a `use` gives it.
    pub(crate) used_as: Option<String>,
}

/// What the files below a directory of the workspace name, but those of tests.
pub(crate) fn read_all(workspace: &Path, directory: &str) -> Vec<Source> {
    let of = |(file, text): (String, String)| {
        let module = file.strip_prefix(directory).unwrap().trim_start_matches('/').to_owned();
        Source::of(&file, &module, &text)
    };
    files(workspace, directory, false).into_iter().map(of).collect()
}

/// The files of Rust below a directory of the workspace, and what is in them.
pub(crate) fn files(workspace: &Path, directory: &str, tests: bool) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut directories = vec![workspace.join(directory)];
    while let Some(next) = directories.pop() {
        let entries = fs::read_dir(&next).unwrap();
        let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_test = ["tests", "tests.rs"].contains(&name.as_str());
            if is_test && !tests || name == "target" {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else if name.ends_with(".rs") {
                let file = path.strip_prefix(workspace).unwrap().to_string_lossy().into_owned();
                files.push((file, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

impl Source {
    /// `module` is the path of the file within its crate's sources.
    pub(crate) fn of(file: &str, module: &str, text: &str) -> Self {
        let module = module.trim_end_matches(".rs").split('/').map(str::to_owned);
        let module: Vec<_> = module.filter(|name| !["lib", "main"].contains(&&**name)).collect();
        let names = names(&without_tests(&bare(text)));
        Source { file: file.to_owned(), module, names }
    }

    /// The paths of its own crate that it names, from the crate's root on.
    pub(crate) fn own(&self) -> impl Iterator<Item = (&Name, Vec<String>)> {
        self.names.iter().filter_map(|name| Some((name, self.absolute(&name.path)?)))
    }

    pub(crate) fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let mut base = match first.as_str() {
            "crate" => return Some(rest.to_vec()),
            "self" => self.module.clone(),
            "super" => self.module[..self.module.len().checked_sub(1)?].to_vec(),
            _ => return None,
        };
        let mut rest = rest;
        while let Some(more) = rest.strip_prefix(&["super".to_owned()][..]) {
            base.pop()?;
            rest = more;
        }
        base.extend_from_slice(rest);
        Some(base)
    }
}

/// A test module ends the file.
fn without_tests(text: &str) -> String {
    let begins = |rest: &str| {
        let rest = rest.trim_start().trim_start_matches("pub(crate) ");
        rest.starts_with("mod ")
    };
    let cut = text.match_indices("#[cfg(test)]").find(|(at, it)| begins(&text[at + it.len()..]));
    cut.map_or(text, |(at, _)| &text[..at]).to_owned()
}

/// The text with blanks in place of comments and of what is in quotes.
fn bare(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut bare = String::with_capacity(text.len());
    let mut at = 0;
    let is = |at: usize, what: &str| {
        what.chars().enumerate().all(|(next, it)| letters.get(at + next) == Some(&it))
    };
    let find = |from: usize, what: &str| {
        (from..letters.len()).find(|at| is(*at, what)).map_or(letters.len(), |at| at + what.len())
    };
    while at < letters.len() {
        let raw =
            letters[at] == 'r' && (is(at, "r\"") || is(at, "r#")) && !part_of_word(&letters, at);
        let end = if is(at, "//") {
            find(at, "\n") - 1
        } else if is(at, "/*") {
            find(at, "*/")
        } else if raw {
            let hashes = letters[at + 1..].iter().take_while(|it| **it == '#').count();
            match letters.get(at + 1 + hashes) {
                Some('"') => find(at + 2 + hashes, &format!("\"{}", "#".repeat(hashes))),
                _ => at,
            }
        } else if letters[at] == '"' {
            let mut end = at + 1;
            while end < letters.len() && letters[end] != '"' {
                end += if letters[end] == '\\' { 2 } else { 1 };
            }
            end + 1
        } else if letters[at] == '\'' && (is(at + 1, "\\") || is(at + 2, "'")) {
            find(at + 3, "'").min(if is(at + 2, "'") { at + 3 } else { letters.len() })
        } else {
            at
        };
        if end == at {
            bare.push(letters[at]);
            at += 1;
        } else {
            let gone = &letters[at..end.min(letters.len())];
            bare.extend(gone.iter().map(|it| if *it == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    bare
}

fn part_of_word(letters: &[char], at: usize) -> bool {
    at > 0 && (letters[at - 1].is_alphanumeric() || letters[at - 1] == '_')
}

/// Each path of two names or more, and all that `use` brings into scope.
fn names(text: &str) -> Vec<Name> {
    let mut names = Vec::new();
    let tokens = tokens(text);
    let mut at = 0;
    while let Some((line, token)) = tokens.get(at) {
        if token == "use" {
            at = tree(&tokens, at + 1, &[], &mut names);
        } else if is_name(token) && tokens.get(at + 1).is_some_and(|(_, next)| next == "::") {
            let mut path = vec![token.clone()];
            at += 1;
            while tokens.get(at).is_some_and(|(_, it)| it == "::")
                && let Some((_, next)) = tokens.get(at + 1).filter(|(_, next)| is_name(next))
            {
                path.push(next.clone());
                at += 2;
            }
            names.push(Name { line: *line, path, used_as: None });
        } else {
            at += 1;
        }
    }
    names
}

/// Takes a tree of a `use`; gives the place after it.
fn tree(
    tokens: &[(usize, String)],
    mut at: usize,
    above: &[String],
    names: &mut Vec<Name>,
) -> usize {
    let mut path = above.to_vec();
    while let Some((line, token)) = tokens.get(at) {
        at += 1;
        match token.as_str() {
            "::" => {}
            "{" => {
                while tokens.get(at).is_some_and(|(_, it)| it != "}") {
                    at = tree(tokens, at, &path, names);
                    if tokens.get(at).is_some_and(|(_, it)| it == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "*" => {
                names.push(Name { line: *line, path, used_as: None });
                return at;
            }
            name => {
                if name != "self" || path.is_empty() {
                    path.push(name.to_owned());
                }
                if tokens.get(at).is_some_and(|(_, next)| next == "::") {
                    continue;
                }
                let renamed = tokens.get(at).is_some_and(|(_, next)| next == "as");
                at += if renamed { 2 } else { 0 };
                let used_as = if renamed { tokens.get(at - 1) } else { None };
                let used_as = used_as.map(|(_, it)| it.clone()).or_else(|| path.last().cloned());
                names.push(Name { line: *line, path, used_as });
                return at;
            }
        }
    }
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::`, and single signs, each with its line.
fn tokens(text: &str) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    for (line, text) in text.lines().enumerate() {
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_word = |it: char| it.is_alphanumeric() || it == '_';
            let length = if is_word(first) {
                rest.find(|it| !is_word(it)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push((line + 1, rest[..length].to_owned()));
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

#[test]
fn a_name_is_found_wherever_it_stands() {
    let text = r##"
//! crate::comment::Name
use crate::{a::{self, b as c}, d::*};
use super::super::e::F;
fn f<'a>(it: &'a str) -> char {
    let _ = ("crate::quoted::Name", r#"crate::"raw"::Name"#, '"', '\'');
    crate::g::h(it); /* crate::i::j */ x.crate_name(); k::l::<m::N>()
}
#[cfg(test)]
mod tests {
    use crate::tests::Only;
}
"##;
    let source = Source::of("x/src/p/q.rs", "p/q.rs", text);
    let own: Vec<String> =
        source.own().map(|(name, path)| format!("{}:{}", name.line, path.join("::"))).collect();
    assert_eq!(own, ["3:a", "3:a::b", "3:d", "4:e::F", "7:g::h"]);
    let all: Vec<String> = source.names.iter().map(|it| it.path.join("::")).collect();
    assert_eq!(all[5..], ["k::l", "m::N"]);
    assert_eq!(source.names[1].used_as.as_deref(), Some("c"));
}
