//! A connection with TLS, over the same socket as without: so the limits of that hold for what is
//! encrypted too.

use super::socket::{LAST, Socket};
use rustls::ServerConfig;
use std::{io, sync::Arc};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What rustls may keep of an answer that the socket does not take, bytes.
const UNSENT: usize = 16 * 1024;

pub(super) type Encrypted = TlsStream<Socket>;

/// Makes the handshake, if it succeeds in time.
pub(super) async fn accept(
    tls: Arc<ServerConfig>,
    socket: Socket,
    until: Instant,
) -> Option<Encrypted> {
    let limit = |connection: &mut rustls::ServerConnection| {
        connection.set_buffer_limit(Some(UNSENT));
    };
    let accepting = TlsAcceptor::from(tls).accept_with(socket, limit).into_fallible();
    match timeout_at(until, accepting).await {
        Ok(Ok(encrypted)) => Some(encrypted),
        Ok(Err((error, socket))) => {
            tracing::debug!(%error, "A TLS handshake failed.");
            // The client is to hear why.
            socket.finish().await;
            None
        }
        Err(_) => {
            tracing::debug!("A TLS handshake took too long.");
            None
        }
    }
}

/// Ends the connection when all has arrived.
pub(super) async fn finish(mut encrypted: Encrypted) {
    let said: Result<io::Result<()>, _> = timeout(LAST, encrypted.shutdown()).await;
    if said.is_ok_and(|said| said.is_ok()) {
        encrypted.into_inner().0.finish().await;
    }
}
