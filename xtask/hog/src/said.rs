//! What the hog says: its lines, and its errors.

use std::{
    error::Error,
    io::{self, Write},
};

/// What there is of an error: a sentence for people.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Writes a line at once: what is in a buffer dies with its process.
pub(crate) fn say(line: &str) -> Outcome<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}
