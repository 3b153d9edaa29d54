//! The names that are looked for among all of the kernel's.
//!
//! A kernel has more than two hundred thousand names of types, functions and enumerators, and the
//! agent needs fewer than a hundred of them. By first byte and length nearly all others are passed
//! over without being read.

use std::collections::{BTreeSet, HashSet};

pub(super) struct Sought<'n> {
    names: &'n HashSet<&'n str>,
    /// Of those that begin with a byte, all lengths.
    lengths: Vec<BTreeSet<usize>>,
}

impl<'n> Sought<'n> {
    pub(super) fn new(names: &'n HashSet<&'n str>) -> Self {
        let mut lengths = vec![BTreeSet::new(); 256];
        for name in names {
            let first = name.bytes().next().map(usize::from);
            if let Some(lengths) = first.and_then(|first| lengths.get_mut(first)) {
                lengths.insert(name.len());
            }
        }
        Sought { names, lengths }
    }

    /// The name that these strings begin with, each of which ends with a NUL, if it is one of them.
    pub(super) fn find<'a>(&self, strings: &'a [u8]) -> Option<&'a str> {
        let first = usize::from(*strings.first()?);
        let ends = |length: &&usize| strings.get(**length) == Some(&0);
        self.lengths.get(first)?.iter().filter(ends).find_map(|length| {
            let name = std::str::from_utf8(strings.get(..*length)?).ok()?;
            self.names.contains(name).then_some(name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_whole_and_nothing_else_is() {
        let names = HashSet::from(["task_struct", "task", "mm_struct", "t"]);
        let sought = Sought::new(&names);
        for (strings, found) in [
            ("task_struct\0x\0", Some("task_struct")),
            ("task\0_struct\0", Some("task")),
            ("t\0ask\0", Some("t")),
            ("tasks\0", None),
            ("task_struct", None),
            ("mm\0struct\0", None),
            ("\0task\0", None),
            ("", None),
        ] {
            assert_eq!(sought.find(strings.as_bytes()), found, "{strings:?}");
        }
        assert_eq!(sought.find(&[0xff, 0]), None);
        assert_eq!(Sought::new(&HashSet::from([""])).find(b"\0"), None);
    }
}
