//! The command line of a victim, as it was when it died (`victimArguments: true` in a rule).
//!
//! It may have what is confidential, so it is never printed with `{:?}`, and only the API
//! asks for [`Arguments::text`].

use crate::clock::Monotonic;
use serde::Serialize;
use std::{fmt, fmt::Write};

/// Most victims of one kill whose arguments are kept: those that the API lists.
pub const MOST: usize = 8;

/// The arguments of the last so many kills are kept, of each victim at most 256 bytes.
pub const KEPT: usize = 100;

/// How a process is called for certain: ids are given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessKey {
    /// Process id on the node.
    pub tgid: u32,
    /// When it began, `CLOCK_BOOTTIME` nanoseconds.
    pub start_boottime: u64,
}

/// What was read of a process that the kernel kills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VictimArguments {
    /// When the signal was delivered.
    pub time: Monotonic,
    pub process: ProcessKey,
    /// None where it was not in memory.
    pub read: Option<Arguments>,
}

/// The first bytes of a command line.
#[derive(Clone, PartialEq, Eq)]
pub struct Arguments {
    bytes: Box<[u8]>,
    is_cut: bool,
}

labels! {
    /// Why the arguments of a victim are not known.
    pub enum Missing {
        /// The signal that ends the process has not been delivered yet.
        Waiting = "waiting",
        /// Their page was swapped out, or was freed already.
        NotInMemory = "not-in-memory",
        /// No signal was seen to be delivered: the process was ending anyway, or the record did not
        /// fit into the ring buffer.
        NotSeen = "not-seen",
        /// The programs for it could not be attached.
        NotAttached = "not-attached",
    }
}

impl Arguments {
    /// Of what `/proc/PID/cmdline` would have.
    pub fn new(bytes: &[u8], is_cut: bool) -> Self {
        Arguments { bytes: bytes.into(), is_cut }
    }

    /// Whether there was more of it.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// In one line: what ends an argument becomes a space. Control characters, what changes the
    /// direction of writing, and bytes that are no text are escaped.
    pub fn text(&self) -> String {
        let end = self.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let mut text = String::new();
        let mut chunks = self.bytes.get(..end).unwrap_or_default().utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            for letter in chunk.valid().chars() {
                match letter {
                    '\0' => text.push(' '),
                    '\\' => text.push_str("\\\\"),
                    letter if is_hidden(letter) => text.extend(letter.escape_unicode()),
                    letter => text.push(letter),
                }
            }
            // A letter that was cut in two is none.
            if self.is_cut && end == self.bytes.len() && chunks.peek().is_none() {
                break;
            }
            for byte in chunk.invalid() {
                // A String takes whatever is written to it.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
        text
    }
}

/// Control characters, and those that Unicode has for the direction of writing and for invisible
/// marks (general category Cf), as far as they are in use.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arguments({} bytes)", self.bytes.len())
    }
}

/// The arguments of a process as the API has them.
#[derive(Clone, Debug, Serialize)]
pub struct ShownArguments {
    /// Process id on the node.
    pub pid: u32,
    /// In one line, with spaces between them; none if they are not known.
    pub text: Option<String>,
    /// There was more.
    pub cut: bool,
    pub missing: Option<Missing>,
}

impl ShownArguments {
    /// As far as they are known.
    pub fn new(pid: u32, known: &Result<Arguments, Missing>) -> Self {
        let read = known.as_ref().ok();
        ShownArguments {
            pid,
            text: read.map(Arguments::text),
            cut: read.is_some_and(Arguments::is_cut),
            missing: known.as_ref().err().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        Arguments::new(bytes, false).text()
    }

    #[test]
    fn arguments_become_one_line_that_harms_nothing() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"\0\0", ""),
            (b"/bin/hog\0--size\x0040\0", "/bin/hog --size 40"),
            (b"a\0\0b\0", "a  b"),
            (b"postgres: web SELECT\0\0\0\0\0", "postgres: web SELECT"),
            (b"a\x1b[2J\nb\x7f", "a\\u{1b}[2J\\u{a}b\\u{7f}"),
            ("r\u{202e}l\u{61c}\u{200b}ü".as_bytes(), "r\\u{202e}l\\u{61c}\\u{200b}ü"),
            (b"caf\xe9!", "caf\\xe9!"),
            (b"a\\x1b", "a\\\\x1b"),
        ] {
            assert_eq!(text(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_letter_that_was_cut_in_two_is_left_out() {
        let cut = Arguments::new(b"caf\xc3", true);
        assert_eq!((cut.text().as_str(), cut.is_cut()), ("caf", true));
        assert_eq!(text(b"caf\xc3"), "caf\\xc3", "what is whole is shown whole");
        assert_eq!(Arguments::new(b"a\xffb", true).text(), "a\\xffb");
    }

    /// At most six letters for each byte, and two for a backslash.
    #[test]
    fn the_text_has_a_bound() {
        assert!(text(&[1; 256]).len() <= 256 * 6);
        assert!(text(&[0xff; 256]).len() <= 256 * 6);
    }

    #[test]
    fn they_are_not_printed_for_debugging() {
        let secret = Arguments::new(b"--password=hunter2", false);
        let read = VictimArguments {
            time: Monotonic(1),
            process: ProcessKey { tgid: 2, start_boottime: 3 },
            read: Some(secret),
        };
        assert!(!format!("{read:?}").contains("hunter2"), "{read:?}");
    }
}
