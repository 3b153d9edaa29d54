//! Names of cgroups that are not text.
//!
//! A name is any bytes but `/`, NUL and newline, and the owner of a cgroup may name its
//! children. So that each path is text with one meaning, a byte that is no part of UTF-8
//! stands for a character of an otherwise unused block. A character of that block
//! in a name is taken as bytes too, so two names never become one, and each comes back as
//! the bytes it was.

use std::{borrow::Cow, fmt};

/// The character of byte 0: the block ends with Unicode's last code point.
const BLOCK: u32 = 0x10_ff00;

/// The byte that a character stands for.
fn byte(letter: char) -> Option<u8> {
    // ASCII is always UTF-8.
    u8::try_from(u32::from(letter).checked_sub(BLOCK)?).ok().filter(|byte| !byte.is_ascii())
}

/// A byte's own character.
fn letter(byte: u8) -> char {
    char::from_u32(BLOCK + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Bytes as text.
pub(super) fn to_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|letter| byte(letter).is_some()) => Cow::Borrowed(text),
        _ => Cow::Owned(spelled(bytes)),
    }
}

fn spelled(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match byte(character) {
                None => text.push(character),
                Some(_) => {
                    text.extend(character.encode_utf8(&mut [0; 4]).bytes().map(letter));
                }
            }
        }
        text.extend(chunk.invalid().iter().copied().map(letter));
    }
    text
}

/// The bytes that became this text.
pub(super) fn to_bytes(text: &str) -> Cow<'_, [u8]> {
    if !text.chars().any(|letter| byte(letter).is_some()) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match byte(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// Writes text for people: what is no text, or would move a cursor, as `\xff`.
pub(super) fn show(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(|letter: char| letter.is_control() || byte(letter).is_some()) {
        let (plain, odd) = rest.split_at(at);
        f.write_str(plain)?;
        let mut letters = odd.chars();
        if let Some(letter) = letters.next() {
            write!(f, "\\x{:02x}", byte(letter).map_or(u32::from(letter), u32::from))?;
        }
        rest = letters.as_str();
    }
    f.write_str(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_and_no_two_are_one() {
        let mut seen = std::collections::HashSet::new();
        let spelled_out = "\u{10ffff}".as_bytes().to_vec();
        let names: [&[u8]; 9] = [
            b"/plain",
            "/\u{e9}t\u{e9}".as_bytes(),
            b"/\xff",
            b"/\\xff",
            b"/a\xc3/b\x80",
            &spelled_out,
            b"\xf4\x8f\xbf",
            b"/\x1b[31m\"'",
            b"\xed\xa0\x80",
        ];
        for name in names {
            let text = to_text(name);
            assert_eq!(&*to_bytes(&text), name, "{text:?}");
            assert!(seen.insert(text.into_owned()));
        }
        for byte in 0x80..=0xff {
            assert_eq!(&*to_bytes(&to_text(&[b'/', byte])), [b'/', byte]);
        }
    }
}
