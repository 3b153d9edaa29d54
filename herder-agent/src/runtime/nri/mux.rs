//! NRI's framing: two ttrpc connections in one socket. Pure.
//!
//! The socket carries frames of a connection's id, a length, and so many bytes
//! (pkg/net/multiplex, containerd/nri 0.2 to 0.12). The bytes of one connection,
//! put together, are messages of ttrpc: a header of ten bytes and a body
//! (PROTOCOL.md, containerd/ttrpc). All numbers are big-endian.
//!
//! The crate `ttrpc` is not used: it wants a socket of its own for each connection,
//! and generated code of another protobuf library. What is needed of it is here.

use bytes::{Buf, Bytes, BytesMut};

/// Longest body of a message (`messageLengthMax`, channel.go of ttrpc).
pub const LONGEST: usize = 4 << 20;

/// Id and length of a frame.
const FRAME_HEADER: usize = 8;

/// Length, stream, kind and flags of a message.
const MESSAGE_HEADER: usize = 10;

/// Longest frame that is written. The runtime reads a frame at once, into a buffer
/// of no more than 4,096 bytes where a message begins, and fails if it does not fit.
const LONGEST_WRITTEN: usize = 4096;

/// A connection within the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// The runtime asks, the plugin answers.
    Plugin,
    /// The plugin asks, the runtime answers.
    Runtime,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Other(u8),
}

/// A message of one of the connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub connection: Connection,
    /// Ties an answer to its question.
    pub stream: u32,
    pub kind: Kind,
    pub body: Bytes,
}

/// Why the bytes cannot be understood, and so none that follow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes is longer than any message")]
    Frame(u32),
    #[error("a message of {0} bytes is longer than {LONGEST}")]
    Message(u32),
}

/// Takes the bytes of a socket apart. What has come of a message is kept, and
/// never more than was sent, whatever length is claimed.
#[derive(Debug, Default)]
pub struct Demultiplexer {
    /// Whose frame is being read; none for unknown connections.
    connection: Option<Connection>,
    /// Bytes of the frame that have yet to come.
    left: usize,
    plugin: BytesMut,
    runtime: BytesMut,
}

impl Demultiplexer {
    /// Takes bytes until a message is complete; none if it takes more of them.
    pub fn next(&mut self, socket: &mut BytesMut) -> Result<Option<Message>, FrameError> {
        loop {
            if let Some(message) = self.complete()? {
                return Ok(Some(message));
            }
            if self.left == 0 {
                let Some((id, length)) = socket.first_chunk::<FRAME_HEADER>().map(words) else {
                    return Ok(None);
                };
                let bytes = usize::try_from(length).unwrap_or(usize::MAX);
                if bytes > MESSAGE_HEADER + LONGEST {
                    return Err(FrameError::Frame(length));
                }
                socket.advance(FRAME_HEADER);
                (self.connection, self.left) = (Connection::of(id), bytes);
                continue;
            }
            if socket.is_empty() {
                return Ok(None);
            }
            let part = socket.split_to(self.left.min(socket.len()));
            self.left -= part.len();
            match self.connection {
                Some(Connection::Plugin) => self.plugin.extend_from_slice(&part),
                Some(Connection::Runtime) => self.runtime.extend_from_slice(&part),
                None => {}
            }
        }
    }

    /// The next message of which all is there.
    fn complete(&mut self) -> Result<Option<Message>, FrameError> {
        let connections =
            [(Connection::Plugin, &mut self.plugin), (Connection::Runtime, &mut self.runtime)];
        for (connection, bytes) in connections {
            let Some(header) = bytes.first_chunk::<MESSAGE_HEADER>() else { continue };
            let [first @ .., kind, _flags] = header;
            let (length, stream) = words(first);
            let body = usize::try_from(length).unwrap_or(usize::MAX);
            if body > LONGEST {
                return Err(FrameError::Message(length));
            }
            let kind = match kind {
                1 => Kind::Request,
                2 => Kind::Response,
                other => Kind::Other(*other),
            };
            if bytes.len() < MESSAGE_HEADER + body {
                continue;
            }
            bytes.advance(MESSAGE_HEADER);
            let body = bytes.split_to(body).freeze();
            if bytes.is_empty() {
                // Some are of megabytes, and their memory is not needed again.
                *bytes = BytesMut::new();
            }
            return Ok(Some(Message { connection, stream, kind, body }));
        }
        Ok(None)
    }
}

impl Connection {
    fn of(id: u32) -> Option<Self> {
        match id {
            1 => Some(Connection::Plugin),
            2 => Some(Connection::Runtime),
            _ => None,
        }
    }

    fn id(self) -> u32 {
        match self {
            Connection::Plugin => 1,
            Connection::Runtime => 2,
        }
    }
}

impl Message {
    /// The message in frames; none if it is too long to be sent.
    pub fn frames(&self) -> Option<Vec<u8>> {
        let length = u32::try_from(self.body.len()).ok().filter(|_| self.body.len() <= LONGEST)?;
        let kind = match self.kind {
            Kind::Request => 1,
            Kind::Response => 2,
            Kind::Other(other) => other,
        };
        let mut message = Vec::with_capacity(MESSAGE_HEADER + self.body.len());
        message.extend(length.to_be_bytes());
        message.extend(self.stream.to_be_bytes());
        message.extend([kind, 0]);
        message.extend_from_slice(&self.body);
        let mut frames = Vec::with_capacity(message.len() + FRAME_HEADER);
        for part in message.chunks(LONGEST_WRITTEN) {
            frames.extend(self.connection.id().to_be_bytes());
            frames.extend(u32::try_from(part.len()).unwrap_or_default().to_be_bytes());
            frames.extend_from_slice(part);
        }
        Some(frames)
    }
}

fn words([a, b, c, d, e, f, g, h]: &[u8; 8]) -> (u32, u32) {
    (u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(connection: Connection, stream: u32, length: usize) -> Message {
        let body = Bytes::from(vec![u8::try_from(stream).unwrap(); length]);
        Message { connection, stream, kind: Kind::Request, body }
    }

    /// What comes out when the bytes come in pieces of this length.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Message>, FrameError> {
        let (mut demultiplexer, mut socket) = (Demultiplexer::default(), BytesMut::new());
        let mut messages = Vec::new();
        for part in bytes.chunks(piece) {
            socket.extend_from_slice(part);
            while let Some(message) = demultiplexer.next(&mut socket)? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn messages_come_back_whatever_the_pieces() {
        let sent: Vec<_> = [0, 1, 4085, 4086, 4087, 20_000]
            .into_iter()
            .zip(1u32..)
            .map(|(length, stream)| {
                let connection =
                    if stream % 2 == 0 { Connection::Runtime } else { Connection::Plugin };
                message(connection, stream, length)
            })
            .collect();
        let bytes: Vec<u8> = sent.iter().flat_map(|message| message.frames().unwrap()).collect();
        for piece in [1, 7, 8, 4096, bytes.len()] {
            assert_eq!(read(&bytes, piece).unwrap(), sent, "pieces of {piece}");
        }
        assert_eq!(read(&bytes[..bytes.len() - 1], 100).unwrap(), sent[..sent.len() - 1]);
    }

    #[test]
    fn parts_of_two_connections_may_alternate() {
        let (one, other) = (message(Connection::Plugin, 1, 9), message(Connection::Runtime, 2, 9));
        let parts = |message: &Message| {
            let frames = message.frames().unwrap();
            let (header, rest) = (frames[..4].to_vec(), frames[FRAME_HEADER..].to_vec());
            let frame = |part: &[u8]| {
                [&header[..], &u32::try_from(part.len()).unwrap().to_be_bytes(), part].concat()
            };
            [frame(&rest[..5]), frame(&rest[5..])]
        };
        let ([a, b], [c, d]) = (parts(&one), parts(&other));
        assert_eq!(read(&[a, c, b, d].concat(), 3).unwrap(), [one, other]);
    }

    #[test]
    fn frames_of_unknown_connections_and_without_bytes_are_passed_over() {
        let sent = message(Connection::Plugin, 3, 5);
        let strange = [&[0, 0, 0, 9, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 1, 0, 0, 0, 0]].concat();
        let bytes = [strange, sent.frames().unwrap()].concat();
        assert_eq!(read(&bytes, 2).unwrap(), [sent]);
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_before_their_bytes_come() {
        let frame = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(read(&frame, 8), Err(FrameError::Frame(u32::MAX)));
        let message = [&[0, 0, 0, 2, 0, 0, 0, 10][..], &[0, 0x40, 0, 1, 0, 0, 0, 1, 1, 0]].concat();
        assert_eq!(read(&message, 18), Err(FrameError::Message((4 << 20) + 1)));
    }

    #[test]
    fn frames_that_are_written_fit_the_runtimes_buffer() {
        let frames = message(Connection::Plugin, 1, 10_000).frames().unwrap();
        let mut rest = &frames[..];
        while !rest.is_empty() {
            let (_, length) = words(rest.first_chunk().unwrap());
            assert!(length <= 4096);
            rest = &rest[FRAME_HEADER + usize::try_from(length).unwrap()..];
        }
        assert_eq!(message(Connection::Plugin, 1, LONGEST + 1).frames(), None);
    }
}
