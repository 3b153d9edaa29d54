//! Waiting for a file descriptor with tokio: the ring buffers and inotify.
#![expect(unsafe_code, reason = "tokio's registration asks for a promise about the descriptor")]

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};
use tokio::io::{
    Interest,
    unix::{AsyncFd, AsyncFdReadyGuard},
};

/// Something can be read.
#[derive(Debug)]
pub struct Guard<'a>(AsyncFdReadyGuard<'a, OwnedFd>);

impl Guard<'_> {
    /// All of it was read; what came meanwhile is notified again.
    pub fn drained(mut self) {
        self.0.clear_ready();
    }
}

/// A duplicate of a descriptor, registered with tokio's epoll.
///
/// A duplicate, because it refers to the same open file and so becomes readable
/// with it, while nothing else can close it.
#[derive(Debug)]
pub struct Readable(AsyncFd<OwnedFd>);

impl Readable {
    /// Registers a descriptor that supports `poll`.
    pub fn register(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        let owned = descriptor.try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` stays open and the same until it is dropped, and
        // the `AsyncFd` owns it.
        let registered = unsafe { AsyncFd::register_with_interest(owned, Interest::READABLE) };
        registered.map(Self).map_err(|error| error.into_parts().1)
    }

    /// Waits until there is something to read. The caller then has to read
    /// everything: readiness is reported again only after something new.
    pub async fn ready(&self) -> io::Result<()> {
        self.readable().await.map(Guard::drained)
    }

    /// Waits until there is something to read. Until the caller says that it has
    /// read everything, the next call does not wait.
    pub async fn readable(&self) -> io::Result<Guard<'_>> {
        self.0.readable().await.map(Guard)
    }
}
