//! A connection's socket, which notices when the client does not read, and leaves nothing
//! behind in the kernel: what is unsent when a socket is closed stays there, and counts
//! against the agent's memory limit, for as long as the client likes.

mod unsent;

use super::peer::Peer;
use rustix::net::sockopt::set_socket_linger;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use unsent::unsent;

/// How long a client may read nothing of what is waiting for it.
pub(super) const UNREAD: Duration = Duration::from_secs(20);

/// How long the end of an answer may be on its way.
pub(super) const LAST: Duration = Duration::from_secs(5);

/// How often it is looked whether it has arrived.
const LOOK: Duration = Duration::from_millis(10);

pub(super) struct Socket {
    stream: TcpStream,
    peer: Peer,
    /// Runs while the socket takes no more.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, peer: Peer) -> Self {
        // The small end of an answer would else wait until the client's kernel has acknowledged what
        // was before, 40 ms on Linux. It can only fail for a connection that is gone.
        let _ = stream.set_nodelay(true);
        Socket { stream, peer, patience: None }
    }

    /// Ends the connection when all has arrived.
    pub(super) async fn finish(mut self) {
        let arrived = async {
            self.stream.shutdown().await?;
            while unsent(&self.stream)? > 0 {
                sleep(LOOK).await;
            }
            io::Result::Ok(())
        };
        // A client that is gone, or reads no more, has had what it wanted.
        let _ = timeout(LAST, arrived).await;
    }

    fn wrote(
        &mut self,
        wrote: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.patience = None;
            self.peer.took();
            return wrote;
        }
        self.peer.took_nothing();
        let ends = || Box::pin(sleep_until(Instant::now() + UNREAD));
        ready!(self.patience.get_or_insert_with(ends).as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// What was not sent is dropped, with a reset.
impl Drop for Socket {
    fn drop(&mut self) {
        if unsent(&self.stream).unwrap_or(0) > 0 {
            // It can only fail for what is no socket.
            let _ = set_socket_linger(&self.stream, Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(wrote, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.wrote(wrote, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_end_of_an_answer_waits_for_nothing() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, address) = listener.accept().await.unwrap();
        assert!(Socket::new(stream, Peer::new(address.ip())).stream.nodelay().unwrap());
    }
}
