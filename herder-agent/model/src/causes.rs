//! An error and all of its causes, in one line.
//!
//! Libraries report an error in layers, and what can be acted on is often the
//! innermost: `client error (Connect)` is caused by `Connection refused`. Wherever an
//! error of a library is logged or returned, its causes go with it.

use std::{
    error::Error,
    fmt::{self, Display, Formatter, Write},
    iter::successors,
};

/// Causes that are followed; a chain that is longer, or a circle, ends here.
const MOST: usize = 16;

/// The longest line, bytes. The longest error is the verifier's, which has its log in it.
const LONGEST: usize = 16 * 1024;

/// Displays an error with its causes. A cause that the text has already is not
/// repeated, and nothing breaks the line.
pub struct Causes<'a>(pub &'a (dyn Error + 'static));

/// The error and its causes, outermost first.
pub fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source()).take(MOST)
}

impl Display for Causes<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let mut whole = String::new();
        for error in chain(self.0) {
            let text = error.to_string();
            if !whole.contains(text.trim()) {
                whole += if whole.is_empty() { "" } else { ": " };
                whole += text.trim();
            }
        }
        let end = whole.floor_char_boundary(LONGEST);
        for letter in whole.get(..end).unwrap_or_default().chars() {
            formatter.write_char(if letter.is_control() { ' ' } else { letter })?;
        }
        formatter.write_str(if end < whole.len() { " …" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl Display for Layer {
        fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|error| error as _)
        }
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (first, rest) = texts.split_first().unwrap();
        Layer(first, (!rest.is_empty()).then(|| Box::new(layers(rest))))
    }

    #[test]
    fn each_cause_is_printed_once_in_one_line() {
        for (texts, line) in [
            (&["a"][..], "a"),
            (&["a", "b", "c"], "a: b: c"),
            // As `thiserror` types do that display their source too.
            (
                &["ServiceError: client error", "client error", "refused"],
                "ServiceError: client error: refused",
            ),
            (
                &["cannot ask: refused; is it there?", "refused"],
                "cannot ask: refused; is it there?",
            ),
            (&["a", "", " b\n"], "a: b"),
            (&["<html>\n<p>\x1b[2J"], "<html> <p> [2J"),
        ] {
            assert_eq!(Causes(&layers(texts)).to_string(), line);
        }
    }

    #[test]
    fn a_line_is_bounded() {
        let long: &'static str = "ä".repeat(LONGEST).leak();
        let line = Causes(&layers(&[long, "b"])).to_string();
        assert!(line.len() < LONGEST + 10 && line.ends_with('…'), "{}", line.len());
        let deep = layers(&["x"; 100]);
        assert_eq!(chain(&deep).count(), MOST);
    }

    #[test]
    fn what_an_io_error_wraps_is_printed() {
        let inner = io::Error::other(layers(&["handshake", "expired"]));
        assert_eq!(Causes(&io::Error::other(inner)).to_string(), "handshake: expired");
    }
}
