//! What can be the name of a namespace, a container, a label or a cgroup. A pattern that can
//! match none of them is a mistake, and its rule would silently do nothing.

use glob::Pattern;

/// Longest name of a namespace or container, bytes (a DNS label, RFC 1123;
/// `IsDNS1123Label()`, k8s.io/apimachinery/pkg/util/validation).
const DNS_LABEL: usize = 63;

/// Longest prefix of a label's key, bytes (a DNS subdomain).
const DNS_SUBDOMAIN: usize = 253;

/// Longest name of a file, so of a cgroup, bytes (`NAME_MAX`).
const LONGEST_COMPONENT: usize = 255;

/// Where the hierarchy is mounted in most machines, and by `deploy/`. Paths begin below it.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/host/cgroup"];

/// The letters of a DNS label; it neither begins nor ends with the last of them.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz0123456789-";

/// The parts of a glob that the crate `glob` has found valid: `*`, or what stands for one
/// letter, which is `?`, a set in brackets, or the letter itself.
fn parts(glob: &str) -> Vec<&str> {
    let mut rest = glob;
    let mut parts = Vec::new();
    while let Some(first) = rest.chars().next() {
        let set = || {
            let inner = rest.strip_prefix('[')?;
            let negated = inner.starts_with('!');
            // As the first of a set, `]` is one of its letters.
            let skipped = inner.chars().nth(usize::from(negated))?.len_utf8();
            let from = 1 + usize::from(negated) + skipped;
            Some(from + rest.get(from..)?.find(']')? + 1)
        };
        let length = set().unwrap_or(first.len_utf8());
        let (part, after) = rest.split_at(length);
        parts.push(part);
        rest = after;
    }
    parts
}

/// Whether a part of a glob stands for one of these letters.
fn matches_one_of(part: &str, letters: &str) -> bool {
    let pattern = Pattern::new(part);
    letters
        .chars()
        .any(|letter| pattern.as_ref().is_ok_and(|it| it.matches(letter.encode_utf8(&mut [0; 4]))))
}

/// Whether a glob can match the name of a namespace or of a container: both are DNS labels.
pub(super) fn dns_label(glob: &str) -> Result<(), String> {
    let parts = parts(glob);
    let ends = LETTERS.trim_end_matches('-');
    let foreign = parts.iter().find(|part| !matches_one_of(part, LETTERS));
    let bad_end =
        [parts.first(), parts.last()].into_iter().flatten().any(|end| !matches_one_of(end, ends));
    let shortest = parts.iter().filter(|part| **part != "*").count();
    let why = match foreign {
        Some(&".") => {
            "no such name has a '.'; globs know `*`, `?` and `[…]`, and are no regular expressions"
                .into()
        }
        Some(part) => format!("no such name has {part:?}; it has a-z, 0-9 and '-'"),
        None if glob.is_empty() => "no name is empty".into(),
        None if bad_end => "no such name begins or ends with '-'".into(),
        None if shortest > DNS_LABEL => format!("no such name is longer than {DNS_LABEL} letters"),
        None => return Ok(()),
    };
    Err(format!("{glob:?} can match nothing: {why}"))
}

/// Whether a label can have this key (`IsQualifiedName()`).
pub(super) fn label_key(key: &str) -> Result<(), String> {
    let (prefix, name) =
        key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let subdomain = |text: &str| {
        text.len() <= DNS_SUBDOMAIN
            && text.split('.').all(|part| {
                !part.is_empty() && dns_label(part).is_ok() && !part.contains(['*', '?', '['])
            })
    };
    if name.is_empty() || !is_label(name) || prefix.is_some_and(|prefix| !subdomain(prefix)) {
        return Err(format!(
            "no label has the key {key:?}: [domain/]name, the name of 1 to 63 letters, digits, '-', '_' or '.'"
        ));
    }
    Ok(())
}

/// Whether a label can have this value (`IsValidLabelValue()`).
pub(super) fn label_value(value: &str) -> Result<(), String> {
    if is_label(value) {
        return Ok(());
    }
    let why = if value.contains(['*', '?', '[']) {
        "labels are compared as they are, not as patterns; list the values with the operator In"
    } else {
        "at most 63 letters, digits, '-', '_' or '.', which begin and end with a letter or digit"
    };
    Err(format!("no label has the value {value:?}: {why}"))
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= DNS_LABEL
        && text.bytes().all(inner)
        && ends.into_iter().flatten().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a glob can match the path of a cgroup below the mount.
pub(super) fn cgroup(glob: &str) -> Result<(), String> {
    if !glob.starts_with('/') || glob.ends_with('/') {
        return Err(format!(
            "{glob:?} is no cgroup path: it must begin with '/' and end with a name"
        ));
    }
    let mounted = MOUNTS.iter().find_map(|mount| {
        let below = glob.strip_prefix(mount)?;
        (below.is_empty() || below.starts_with('/')).then_some(below)
    });
    let components = || glob.split('/').skip(1);
    let shortest = |component: &str| {
        parts(component)
            .iter()
            .filter(|part| **part != "*")
            .map(|part| if part.len() > 1 && part.starts_with('[') { 1 } else { part.len() })
            .sum::<usize>()
    };
    let literal = |letter: &str| parts(glob).contains(&letter);
    let why = if let Some(below) = mounted {
        let below = if below.is_empty() { "/…" } else { below };
        format!("paths begin below the mount; write {below:?}")
    } else if components().any(str::is_empty) {
        "no cgroup has an empty name; write one '/'".into()
    } else if components().any(|component| [".", ".."].contains(&component)) {
        "paths are not followed up or down; leave '.' and '..' out".into()
    } else if literal("{") || literal("}") {
        "globs have no {a,b}; write two patterns, or `[{]` for a brace itself".into()
    } else if literal("\n") || literal("\0") {
        "no cgroup's name has a line break or a zero byte".into()
    } else if components().any(|component| shortest(component) > LONGEST_COMPONENT) {
        format!("no cgroup's name is longer than {LONGEST_COMPONENT} bytes")
    } else {
        return Ok(());
    };
    Err(format!("{glob:?} can match nothing: {why}"))
}
