//! Answers with gzip, for clients that ask for it: metrics shrink to a tenth, and Prometheus asks
//! for that by default.
//!
//! An encoder has some 300 KiB of state, so there are few at once; further answers are as they
//! would be without. It is fed the same pieces, one at a time, as the client reads.

use super::answer::Answer;
use flate2::{Compression, write::GzEncoder};
use hyper::{
    HeaderMap,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, VARY},
};
use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// Encoders at once: two Prometheus servers, and as many others.
const AT_ONCE: usize = 4;

/// The fastest level: what a higher one saves of the network it costs the node's processor.
const LEVEL: Compression = Compression::fast();

/// Who has an encoder. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Encoders(Arc<AtomicUsize>);

/// One encoder, until it is dropped.
pub(super) struct Gzip {
    encoder: GzEncoder<Vec<u8>>,
    encoders: Encoders,
}

impl Encoders {
    /// An encoder, if the client takes what it makes, and one is free.
    pub(super) fn one_for(&self, headers: &HeaderMap) -> Option<Gzip> {
        if !accepts(headers) {
            return None;
        }
        let free = |taken: usize| (taken < AT_ONCE).then_some(taken + 1);
        self.0.fetch_update(Relaxed, Relaxed, free).ok()?;
        let encoder = GzEncoder::new(Vec::new(), LEVEL);
        Some(Gzip { encoder, encoders: self.clone() })
    }
}

impl Gzip {
    /// What a part becomes; nothing as long as the encoder keeps it for what comes after it.
    pub(super) fn encode(&mut self, text: &[u8], is_last: bool) -> Vec<u8> {
        let written = self.encoder.write_all(text);
        let ended = written.and_then(|()| if is_last { self.encoder.try_finish() } else { Ok(()) });
        if let Err(error) = ended {
            // It writes to memory, for which this does not happen.
            tracing::error!(%error, "Cannot compress an answer.");
        }
        std::mem::take(self.encoder.get_mut())
    }
}

impl Drop for Gzip {
    fn drop(&mut self) {
        self.encoders.0.fetch_sub(1, Relaxed);
    }
}

/// Says of an answer that it is encoded, or would be for another client.
pub(super) fn mark(answer: &mut Answer, is_encoded: bool) {
    let headers = answer.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if is_encoded {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
}

/// Whether a client takes gzip (RFC 9110, 12.5.3): it names it, or everything, with a weight
/// that is not 0. What it names itself counts before `*`.
fn accepts(headers: &HeaderMap) -> bool {
    let (mut named, mut any) = (None, None);
    let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for item in lines.flat_map(|line| line.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let wanted =
            weight.is_none_or(|weight| weight.parse().is_ok_and(|weight: f32| weight > 0.0));
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            named = Some(wanted);
        } else if name == "*" {
            any = Some(wanted);
        }
    }
    named.or(any).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    fn asking(lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_static(line));
        }
        headers
    }

    #[test]
    fn who_takes_gzip() {
        let table: [(&[&str], bool); 15] = [
            (&[], false),
            (&[""], false),
            (&["gzip"], true),
            (&["GZIP"], true),
            (&["x-gzip"], true),
            (&["deflate, gzip;q=0.5, br"], true),
            (&["deflate", "gzip"], true),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000"], false),
            (&["gzip;q=x"], false),
            (&["*"], true),
            (&["*;q=0"], false),
            (&["*, gzip;q=0"], false),
            (&["gzip, *;q=0"], true),
            (&["identity, gzipped"], false),
        ];
        for (lines, takes) in table {
            assert_eq!(accepts(&asking(lines)), takes, "{lines:?}");
        }
    }

    #[test]
    fn encoders_are_few_and_come_back() {
        let encoders = Encoders::default();
        let headers = asking(&["gzip"]);
        let taken: Vec<_> = (0..AT_ONCE).map(|_| encoders.one_for(&headers).unwrap()).collect();
        assert!(encoders.one_for(&headers).is_none());
        drop(taken);
        assert!(encoders.one_for(&headers).is_some());
    }

    #[test]
    fn the_parts_are_one_text() {
        let mut gzip = Encoders::default().one_for(&asking(&["gzip"])).unwrap();
        let parts: Vec<String> = (0..50).map(|part| format!("part {part} ").repeat(1000)).collect();
        let mut encoded = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            encoded.extend(gzip.encode(part.as_bytes(), number + 1 == parts.len()));
        }
        let mut text = String::new();
        GzDecoder::new(&encoded[..]).read_to_string(&mut text).unwrap();
        assert!(text == parts.concat() && encoded.len() < text.len() / 10, "{}", encoded.len());
    }
}
