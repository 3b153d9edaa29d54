//! Aligned columns, with colour where that helps; and lines of JSON.

use serde_json::Value;
use std::fmt::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Plain,
    Head,
    Dim,
    /// What is as it should be.
    Good,
    /// What is not.
    Bad,
}

/// Whether a letter would move the cursor, change colours or the direction of writing, or not be
/// seen. The standard library knows which have no width or look of their own (controls, formats
/// such as those of direction, tags, spaces but one, what is put over the letter before, and what is
/// not assigned), and escapes some others that are of no harm here.
fn moves_the_terminal(letter: char) -> bool {
    !matches!(letter, '"' | '\'' | '\\') && letter.escape_debug().len() > 1
}

/// Text in which whatever would move the cursor, change colours or the direction of writing is
/// escaped.
pub fn safe(text: &str) -> String {
    let mut safe = String::new();
    for letter in text.chars() {
        if moves_the_terminal(letter) {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// JSON, one value a line, as other programs like it. What serde_json leaves as it is, and a
/// terminal would obey, is escaped: a process calls itself what it likes.
pub fn json(all: &[Value]) -> String {
    let mut lines = String::new();
    for one in all {
        for letter in one.to_string().chars() {
            if moves_the_terminal(letter) {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    // Writing to a string cannot fail.
                    let _ = write!(lines, "\\u{unit:04x}");
                }
            } else {
                lines.push(letter);
            }
        }
        lines.push('\n');
    }
    lines
}

/// One cell. Its text has no control characters.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    look: Look,
}

impl Cell {
    /// The text as [`safe`] has it.
    pub fn new(text: impl AsRef<str>, look: Look) -> Self {
        Cell { text: safe(text.as_ref()), look }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Columns that only ever get wider, so that what follows stays in line.
#[derive(Debug, Default)]
pub struct Columns(Vec<usize>);

impl Columns {
    /// Lines for rows of the same number of cells, of which only the last may be
    /// empty.
    pub fn lines(&mut self, rows: &[Vec<Cell>], colours: bool) -> String {
        for row in rows {
            self.0.resize(self.0.len().max(row.len()), 0);
            for (width, cell) in self.0.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut text = String::new();
        for row in rows {
            let mut gap = 0;
            for (cell, width) in row.iter().zip(&self.0).filter(|(cell, _)| cell.width() > 0) {
                text.extend(std::iter::repeat_n(' ', gap));
                text.push_str(&painted(cell, colours));
                gap = width.saturating_sub(cell.width()) + 2;
            }
            text.push('\n');
        }
        text
    }
}

fn painted(cell: &Cell, colours: bool) -> String {
    let code = match cell.look {
        Look::Plain => "",
        Look::Head => "1",
        Look::Dim => "2",
        Look::Good => "32",
        Look::Bad => "31",
    };
    if colours && !code.is_empty() {
        format!("\x1b[{code}m{}\x1b[0m", cell.text)
    } else {
        cell.text.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    /// The bytes that a terminal obeys, in the JSON that other programs read as it was.
    #[test]
    fn lines_of_json_cannot_harm_the_terminal() {
        let comm = "a\u{1b}[2J\u{9b}2J\u{7f}\u{202e}\u{1f4a5}é";
        let lines = json(&[value!({"comm": comm}), value!(1)]);
        assert!(
            lines.chars().all(|letter| letter == '\n' || !moves_the_terminal(letter)),
            "{lines:?}"
        );
        let read: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, [value!({"comm": comm}), value!(1)]);
    }

    /// All that Unicode calls `Bidi_Control`, and others that hide or move what is beside them.
    #[test]
    fn what_turns_or_hides_letters_is_escaped() {
        let turn = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        let hide = "\u{ad}\u{34f}\u{180e}\u{200b}\u{200d}\u{2028}\u{2029}\u{2060}\u{2064}\u{feff}\u{fe0f}\u{fff9}\u{e0041}\u{e0100}";
        for letter in turn.chars().chain(hide.chars()) {
            let cell = Cell::new(letter.to_string(), Look::Plain);
            assert_eq!(cell.text, letter.escape_unicode().to_string());
        }
        let plain = r#"/usr/bin/a b"c'd\é漢字ж🐑"#;
        assert_eq!(Cell::new(plain, Look::Plain).text, plain);
    }
}
