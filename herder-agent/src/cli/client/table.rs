//! Aligned columns, with colour where that helps.

/// How a cell looks on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As it is.
    Plain,
    /// The name of a column.
    Head,
    /// Less important.
    Dim,
    /// What is as it should be.
    Good,
    /// What is not.
    Bad,
}

/// One cell. Its text has no control characters.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    look: Look,
}

impl Cell {
    /// Whatever would move the cursor, change colours or the direction of
    /// writing is escaped.
    pub fn new(text: impl AsRef<str>, look: Look) -> Self {
        let dangerous = |letter: char| {
            letter.is_control()
                || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        };
        let mut safe = String::new();
        for letter in text.as_ref().chars() {
            if dangerous(letter) {
                safe.extend(letter.escape_default());
            } else {
                safe.push(letter);
            }
        }
        Cell { text: safe, look }
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
