//! Whether a client has sent a request. Until then its connection costs a descriptor and what the
//! kernel has received, so there may be far more of them than are served at once.

use rustix::net::{RecvFlags, recv};
use std::io;
use tokio::{io::Interest, net::TcpStream};

/// A head that is longer than this is read as it comes, bytes.
const LOOKED_AT: usize = 2048;

/// The type of a record of TLS in which a handshake begins.
const HANDSHAKE: u8 = 0x16;

/// Waits for the head of a request, a good part of it, or something that is not one. Returns
/// whether it came, or false if the client left before.
pub(super) async fn arrives(stream: &TcpStream) -> io::Result<bool> {
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        match stream.try_io(Interest::READABLE, || look(stream)) {
            // The next bytes wake again, but for an end: that stays.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if ready.is_read_closed() {
                    return Ok(false);
                }
            }
            looked => return looked,
        }
    }
}

/// Whether what has arrived begins as a handshake of TLS does: with a record of that type
/// (RFC 8446, 5.1), which is no letter of a method.
pub(super) fn is_handshake(stream: &TcpStream) -> bool {
    let mut first = [0; 1];
    let looked = recv(stream, &mut first[..], RecvFlags::PEEK);
    looked.is_ok_and(|(_, length)| length == 1) && first == [HANDSHAKE]
}

fn look(stream: &TcpStream) -> io::Result<bool> {
    let mut bytes = [0; LOOKED_AT];
    let (_, length) = recv(stream, &mut bytes[..], RecvFlags::PEEK)?;
    match bytes.get(..length).unwrap_or_default() {
        [] => Ok(false),
        bytes if is_whole(bytes) || length == LOOKED_AT => Ok(true),
        _ => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Methods have capital letters, and a head ends with an empty line.
fn is_whole(bytes: &[u8]) -> bool {
    let is_other = bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase());
    is_other
        || bytes.windows(4).any(|end| end == b"\r\n\r\n")
        || bytes.windows(2).any(|end| end == b"\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line() {
        let table: [(&[u8], bool); 8] = [
            (b"G", false),
            (b"GET / HTTP/1.1\r\nHost: x\r\n", false),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r", false),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
            (b"GET / HTTP/1.1\nHost: x\n\n", true),
            (b"GET / HTTP/1.1\r\n\r\nGET /", true),
            (b"\x16\x03\x01", true),
            (b"\r\n", true),
        ];
        for (bytes, whole) in table {
            assert_eq!(is_whole(bytes), whole, "{}", bytes.escape_ascii());
        }
    }
}
