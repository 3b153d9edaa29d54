//! No circles of modules.
//!
//! The children of each module, each with all that lies below it, may import each other in one
//! direction only. A module and what lies below it are one thing: a child may use what its parent
//! has, and the parent its children; `mod` and `pub use` are no imports. A name that a module only
//! passes on, by `use` or `pub use`, is taken from where it comes.

use super::source::{Name, Source};
use std::collections::{BTreeMap, BTreeSet};

/// Who imports whom, and where.
type Edges = BTreeMap<String, BTreeMap<String, String>>;

/// Each circle as its modules, and below that where they import each other.
pub(crate) fn circles(sources: &[Source]) -> Vec<(BTreeSet<String>, String)> {
    let modules: BTreeMap<&[String], &Source> =
        sources.iter().map(|source| (&source.module[..], source)).collect();
    // By the module whose children they are.
    let mut levels: BTreeMap<Vec<String>, Edges> = BTreeMap::new();
    for source in sources {
        for (name, path) in source.own() {
            let Some(defined) = defined_in(&modules, &path, 0) else { continue };
            let same =
                source.module.iter().zip(&defined).take_while(|(one, other)| one == other).count();
            let (Some(from), Some(to)) = (source.module.get(same), defined.get(same)) else {
                // One of them lies below the other.
                continue;
            };
            let above = &source.module[..same];
            let full = |last: &String| [above, std::slice::from_ref(last)].concat().join("::");
            let place = place(source, name);
            let edges = levels.entry(above.to_vec()).or_default();
            edges.entry(full(from)).or_default().entry(full(to)).or_insert(place);
        }
    }
    levels.values().flat_map(in_level).collect()
}

fn place(source: &Source, name: &Name) -> String {
    format!("{}:{}: {}", source.file, name.line, name.path.join("::"))
}

/// The module that a path leads to: the longest part of it that is one, or where that has the name
/// from.
fn defined_in(
    modules: &BTreeMap<&[String], &Source>,
    path: &[String],
    depth: usize,
) -> Option<Vec<String>> {
    let length = (0..=path.len()).rev().find(|length| modules.contains_key(&path[..*length]))?;
    let module = modules.get(&path[..length])?;
    let passed_on = path.get(length).and_then(|name| {
        let passes = module.names.iter().find(|it| it.used_as.as_ref() == Some(name))?;
        child_or_own(modules, module, passes)
    });
    match passed_on {
        Some(other) if depth < 8 && other != path => defined_in(modules, &other, depth + 1),
        _ => Some(module.module.clone()),
    }
}

/// A path as it is from the crate's root on, if it is the crate's: `child::Name` too.
fn child_or_own(
    modules: &BTreeMap<&[String], &Source>,
    module: &Source,
    name: &Name,
) -> Option<Vec<String>> {
    let own = module.absolute(&name.path);
    own.or_else(|| {
        let first = name.path.first()?;
        let child = [&module.module[..], std::slice::from_ref(first)].concat();
        modules.contains_key(&child[..]).then(|| [&module.module[..], &name.path[..]].concat())
    })
}

fn in_level(edges: &Edges) -> Vec<(BTreeSet<String>, String)> {
    let mut circles: BTreeSet<BTreeSet<String>> = BTreeSet::new();
    for from in edges.keys() {
        let reached = reached(edges, from);
        let circle: BTreeSet<String> =
            reached.iter().filter(|to| self::reached(edges, to).contains(from)).cloned().collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    let shown = |circle: BTreeSet<String>| {
        let between = edges.iter().filter(|(from, _)| circle.contains(*from));
        let places = between.flat_map(|(_, to)| to.iter().filter(|(to, _)| circle.contains(*to)));
        let places: Vec<&str> = places.map(|(_, place)| place.as_str()).collect();
        let text = places.join("\n  ");
        (circle, text)
    };
    circles.into_iter().map(shown).collect()
}

fn reached(edges: &Edges, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(next) = open.pop() {
        for to in edges.get(&next).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(to.clone()) {
                open.push(to.clone());
            }
        }
    }
    reached
}

#[test]
fn a_circle_is_found_also_through_a_parent_and_a_re_export() {
    let file = |module: &str, text: &str| Source::of(&format!("x/src/{module}"), module, text);
    let mut sources = vec![
        file("a.rs", "mod b;\nmod c;\npub use c::Word;\nuse b::B;"),
        file("a/b.rs", "use super::Word;"),
        file("a/c.rs", "use super::A;"),
        file("d.rs", "use crate::a::Word;"),
    ];
    assert_eq!(circles(&sources), [], "a parent and its children are one thing");
    sources.push(file("a/c/e.rs", "\nuse crate::d::D;"));
    let found = circles(&sources);
    let [(circle, places)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(circle.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "d"]);
    assert_eq!(places, "x/src/a/c/e.rs:2: crate::d::D\n  x/src/d.rs:1: crate::a::Word");
    sources.pop();
    sources[2] = file("a/c.rs", "use super::b::B;");
    assert_eq!(circles(&sources)[0].0.len(), 2, "b takes a word of c, and c one of b");
}
