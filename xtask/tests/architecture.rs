//! No file may need another one that needs it: in a circle none can be read, tested or
//! moved without all others.
//!
//! A file needs what it names: `use` lines and paths that begin with `crate`, `super` or
//! a child module. A `mod` line alone names nothing, because a file has to declare its
//! children whether it uses them or not. Unit tests inside of a file are left out: they
//! name what they test. Calls of one crate to another cannot be in a circle.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};
use syn::{Attribute, Item, UseTree};

/// Every crate here has one of these files as its root; herder-agent has a test of its own.
const CRATES: [&str; 5] = [
    "xtask/src/main.rs",
    "xtask/guest/src/main.rs",
    "xtask/hog/src/main.rs",
    "herder-agent-ebpf/src/lib.rs",
    "herder-agent-ebpf/src/main.rs",
];

#[test]
fn no_files_are_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let found: String = CRATES
        .iter()
        .map(|name| circles(root.join(name), &|path| fs::read_to_string(path).ok()))
        .collect();
    let found = found.replace(&format!("{}/", root.display()), "");
    assert!(found.is_empty(), "these files are in a circle:\n{found}");
}

/// Whoever reads a file has to have it in mind as a whole.
#[test]
fn no_file_is_long() {
    const MOST_LINES: usize = 400;
    let mut directories = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|name| name == "rs") {
                files += 1;
                let lines = fs::read_to_string(&path).unwrap().lines().count();
                assert!(lines <= MOST_LINES, "{}: {lines} lines", path.display());
            }
        }
    }
    assert!(files > 100, "{files} files");
}

/// The test of the test: a circle that is turned, hidden in a macro, or goes through a parent.
#[test]
fn a_circle_is_found() {
    let found = |files: &[(&str, &str)]| {
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        };
        circles("main.rs".into(), &read)
    };
    let downwards = ("main.rs", "mod a; mod b; use a::A; fn main() { b::run(); }");
    assert_eq!(found(&[downwards, ("a.rs", "use crate::b::B;"), ("b.rs", "")]), "");
    assert_eq!(
        found(&[downwards, ("a.rs", "\nuse crate::b::B;"), ("b.rs", "fn run() { super::a::x() }")]),
        "  a.rs:2 names b.rs\n  b.rs:1 names a.rs\n"
    );
    let in_macro = "fn run() { println!(\"{}\", crate::a::A); }";
    assert!(!found(&[downwards, ("a.rs", "use crate::b::B;"), ("b.rs", in_macro)]).is_empty());
    let through_root = "use crate::{x, y::Y};";
    assert_eq!(
        found(&[downwards, ("a.rs", through_root), ("b.rs", "")]),
        "  a.rs:1 names main.rs\n  main.rs:1 names a.rs\n"
    );
    let of_tests = "#[cfg(test)] mod tests { use crate::a::A; }";
    assert_eq!(found(&[downwards, ("a.rs", "use crate::b::B;"), ("b.rs", of_tests)]), "");
    let parent = ("main.rs", "mod a; use a::A;");
    let below = [parent, ("a.rs", "mod c; pub use c::C;"), ("a/c.rs", "use super::D;")];
    assert_eq!(found(&below), "  a/c.rs:1 names a.rs\n  a.rs:1 names a/c.rs\n");
    let declares = [parent, ("a.rs", "mod c; struct D;"), ("a/c.rs", "use super::D;")];
    assert_eq!(found(&declares), "", "a declaration names nothing");
}

type Module = Vec<String>;

/// Mentions of one file in another, by the line of the first.
type Mentions = BTreeMap<(PathBuf, PathBuf), usize>;

/// The mentions that are part of a circle, a line each.
fn circles(root: PathBuf, read: &dyn Fn(&Path) -> Option<String>) -> String {
    let mut sources = Sources { read, modules: BTreeMap::new(), paths: Vec::new() };
    let directory = root.parent().unwrap().to_owned();
    sources.file(root, Vec::new(), &directory);
    let mut mentions = sources.mentions();
    // What begins or ends no mention of what is left is in no circle.
    loop {
        let before = mentions.len();
        let from: BTreeSet<_> = mentions.keys().map(|(from, _)| from.clone()).collect();
        mentions.retain(|(_, to), _| from.contains(to));
        let to: BTreeSet<_> = mentions.keys().map(|(_, to)| to.clone()).collect();
        mentions.retain(|(from, _), _| to.contains(from));
        if mentions.len() == before {
            break;
        }
    }
    let line = |((from, to), line): (&(PathBuf, PathBuf), &usize)| {
        format!("  {}:{line} names {}\n", from.display(), to.display())
    };
    mentions.iter().map(line).collect()
}

/// A path as it is written, and where.
struct Written {
    file: PathBuf,
    module: Module,
    path: Vec<String>,
    line: usize,
}

struct Sources<'a> {
    read: &'a dyn Fn(&Path) -> Option<String>,
    modules: BTreeMap<Module, PathBuf>,
    paths: Vec<Written>,
}

impl Sources<'_> {
    /// Reads a module's file, and those of its children, which are in this directory.
    fn file(&mut self, file: PathBuf, module: Module, children: &Path) {
        let text = (self.read)(&file).unwrap_or_else(|| panic!("no {}", file.display()));
        let parsed = syn::parse_file(&text);
        let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.items(&file, &module, children, parsed.items);
        self.modules.insert(module, file);
    }

    fn items(&mut self, file: &Path, module: &Module, children: &Path, items: Vec<Item>) {
        for item in items {
            match item {
                Item::Mod(child) => {
                    let name = child.ident.to_string();
                    let below = [module.clone(), vec![name.clone()]].concat();
                    let directory = children.join(&name);
                    match child.content {
                        Some(_) if is_test(&child.attrs) => {}
                        Some((_, items)) => {
                            self.items(file, &below, &directory, items);
                            self.modules.insert(below, file.to_owned());
                        }
                        None => self.file(children.join(name + ".rs"), below, &directory),
                    }
                }
                Item::Use(item) if !is_test(&item.attrs) => {
                    self.uses(file, module, &mut Vec::new(), &item.tree);
                }
                Item::Fn(item) if is_test(&item.attrs) => {}
                Item::Const(item) if is_test(&item.attrs) => {}
                item => self.tokens(file, module, item.into_token_stream()),
            }
        }
    }

    fn wrote(&mut self, file: &Path, module: &Module, path: Vec<String>, line: usize) {
        if path.len() > 1 {
            self.paths.push(Written { file: file.to_owned(), module: module.clone(), path, line });
        }
    }

    fn uses(&mut self, file: &Path, module: &Module, before: &mut Vec<String>, tree: &UseTree) {
        let (ident, rest) = match tree {
            UseTree::Path(path) => (&path.ident, Some(&*path.tree)),
            UseTree::Name(name) => (&name.ident, None),
            UseTree::Rename(name) => (&name.ident, None),
            UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                let all = [before.clone(), vec!["*".into()]].concat();
                return self.wrote(file, module, all, line);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.uses(file, module, before, tree));
            }
        };
        before.push(ident.to_string());
        match rest {
            Some(rest) => self.uses(file, module, before, rest),
            None => self.wrote(file, module, before.clone(), ident.span().start().line),
        }
        before.pop();
    }

    /// Every `a::b::c`, also where a macro has it. A word alone is no path, as in `pub(super)`.
    fn tokens(&mut self, file: &Path, module: &Module, tokens: TokenStream) {
        let (mut path, mut line, mut colons) = (Vec::new(), 0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.wrote(file, module, std::mem::take(&mut path), line);
                    }
                    line = ident.span().start().line;
                    path.push(ident.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => {
                    if colons == 2 && group.delimiter() == Delimiter::Brace {
                        // `use` inside of a function.
                        let before = std::mem::take(&mut path);
                        let text = format!("use {}::{group};", before.join("::"));
                        if let Ok(Item::Use(item)) = syn::parse_str(&text) {
                            self.uses(file, module, &mut Vec::new(), &item.tree);
                        }
                    } else {
                        self.tokens(file, module, group.stream());
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            self.wrote(file, module, std::mem::take(&mut path), line);
            colons = 0;
        }
        self.wrote(file, module, path, line);
    }

    fn mentions(&self) -> Mentions {
        let mut mentions = Mentions::new();
        for Written { file, module, path, line } in &self.paths {
            if let Some(to) = self.target(module, path).filter(|to| *to != file) {
                mentions.entry((file.clone(), to.clone())).or_insert(*line);
            }
        }
        mentions
    }

    /// The file that a path leads to, if it begins with a module of the crate.
    fn target(&self, module: &Module, path: &[String]) -> Option<&PathBuf> {
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => {
                let mut above = module.clone();
                above.pop()?;
                while rest.first().is_some_and(|next| next == "super") {
                    above.pop()?;
                    rest = &rest[1..];
                }
                above
            }
            name => [module.clone(), vec![name.to_owned()]].concat(),
        };
        self.modules.get(&at)?;
        for name in rest {
            at.push(name.clone());
            if !self.modules.contains_key(&at) {
                at.pop();
                break;
            }
        }
        self.modules.get(&at)
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    let is = |attribute: &&Attribute| {
        let text = attribute.to_token_stream().to_string().replace(' ', "");
        text == "#[cfg(test)]" || text.starts_with("#[cfg(all(test,") || text == "#[test]"
    };
    attributes.iter().any(|attribute| is(&attribute))
}
