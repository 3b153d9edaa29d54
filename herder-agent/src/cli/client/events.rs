//! Takes an agent's stream of kills apart: server-sent events, whose bytes come in any pieces.

use serde::de::Error;
use serde_json::Value;

/// Longest line; a kill has a few KiB.
const LONGEST_LINE: usize = 1 << 20;

/// Something to show.
#[derive(Debug, PartialEq)]
pub enum News {
    /// A kill.
    Kill(Value),
    /// A kill of before, of which it is known now what became of its container.
    Settled(Value),
    /// So many kills came faster than they were read.
    Missed(u64),
}

/// What has come of a stream.
#[derive(Debug, Default)]
pub struct Events {
    read: Vec<u8>,
    event: String,
    /// Of the event of which not all has come.
    id: Option<String>,
    /// The id of the last event, after which a stream that broke off is to go on.
    pub last: String,
}

impl Events {
    /// A stream that goes on after this kill.
    pub fn after(last: String) -> Self {
        Events { last, ..Events::default() }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.read.extend_from_slice(bytes);
    }

    fn has_come(&mut self) {
        if let Some(id) = self.id.take() {
            self.last = id;
        }
    }

    fn news(&self, data: Value) -> Option<News> {
        match self.event.as_str() {
            "kill" => Some(News::Kill(data)),
            "settled" => Some(News::Settled(data)),
            "missed" => Some(News::Missed(data.get("missed").and_then(Value::as_u64).unwrap_or(0))),
            _ => None,
        }
    }
}

/// What has come, and then nothing until more comes. What is no stream of an agent is an error.
impl Iterator for Events {
    type Item = Result<News, serde_json::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.read.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(name) = line.strip_prefix("event: ") {
                name.trim_end().clone_into(&mut self.event);
            } else if let Some(id) = line.strip_prefix("id: ") {
                self.id = Some(id.trim_end().to_owned());
            } else if line.trim_end().is_empty() {
                self.has_come();
            } else if let Some(data) = line.strip_prefix("data: ") {
                self.has_come();
                match serde_json::from_str(data).map(|data| self.news(data)) {
                    Ok(None) => {}
                    Ok(Some(news)) => return Some(Ok(news)),
                    Err(error) => return Some(Err(error)),
                }
            }
        }
        let is_endless = self.read.len() > LONGEST_LINE;
        is_endless.then(|| Err(serde_json::Error::custom("a line has no end within 1 MiB")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_comes_in_pieces_is_put_together() {
        let text = ": hello\nid: a-2\n\nevent: kill\nid: a-3\ndata: {\"id\":3}\n\nevent: missed\ndata: {\"missed\":2}\n\n\
                    event: settled\ndata: {\"id\":1,\"survived\":true}\n\nevent: new\ndata: {}\n\n";
        let settled = News::Settled(json!({"id": 1, "survived": true}));
        let expected = [News::Kill(json!({"id": 3})), News::Missed(2), settled];
        for size in [1, 7, text.len()] {
            let (mut events, mut all) = (Events::after("1".into()), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                events.push(piece);
                all.extend(events.by_ref().map(Result::unwrap));
            }
            assert_eq!((&all[..], &*events.last), (&expected[..], "a-3"), "{size}");
        }
    }

    #[test]
    fn a_stream_goes_on_after_the_last_event_that_is_whole() {
        let mut events = Events::after("1".into());
        for (text, last) in [
            (": hello\nid: a-4\n", "1"),
            ("\n", "a-4"),
            ("event: kill\nid: a-5\n", "a-4"),
            ("data: {}\n", "a-5"),
        ] {
            events.push(text.as_bytes());
            let _ = events.by_ref().count();
            assert_eq!(events.last, last, "{text}");
        }
    }

    #[test]
    fn what_is_no_stream_of_an_agent_is_an_error() {
        let mut events = Events::default();
        events.push(b"data: <html>\n");
        assert!(events.next().unwrap().is_err());
        let mut events = Events::default();
        events.push(&vec![b'x'; LONGEST_LINE]);
        assert!(events.next().is_none());
        events.push(b"x");
        assert!(events.next().unwrap().unwrap_err().to_string().contains("no end within 1 MiB"));
    }
}
