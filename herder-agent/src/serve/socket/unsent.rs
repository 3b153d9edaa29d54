//! How much of what was written to a socket the other end has not acknowledged.
#![expect(unsafe_code, reason = "no safe crate offers SIOCOUTQ")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// Bytes, and one more for an end that is not acknowledged.
pub(super) fn unsent(socket: impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the number outlives the call, which writes no more
    // than that. SIOCOUTQ is the same request as TIOCOUTQ (linux/sockios.h).
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 {
        Ok(u64::try_from(bytes).unwrap_or(0))
    } else {
        Err(io::Error::last_os_error())
    }
}
