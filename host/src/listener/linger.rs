//! Closes a connection without destroying data in flight.
//!
//! Closing a socket with unread bytes makes the operating system send a reset, which may destroy the end of a response
//! before the client has read it. So the last bytes of the client are read and discarded.

use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::Serving;

/// Longest time for a client to stop sending after the end of its connection.
const LINGER: Duration = Duration::from_secs(2);
/// The same while the process ends, or a new connection waits for a permit.
const SHORT_LINGER: Duration = Duration::from_millis(100);
/// Most bytes that are discarded.
const MAX_DISCARDED: usize = 4 << 20;

/// Closes the sending side and reads until the client closes too, within limits.
pub(super) async fn linger(socket: TcpStream, serving: &Serving) {
    // Usually done already, except by the HTTP library after a request for a protocol upgrade.
    let _ = SockRef::from(&socket).shutdown(std::net::Shutdown::Write);
    let is_short = serving.lifecycle.token().is_cancelled() || serving.limit.is_full();
    let longest = if is_short { SHORT_LINGER } else { LINGER };
    tokio::select! {
        () = discard(&socket) => (),
        () = tokio::time::sleep(longest) => (),
        () = async {
            serving.lifecycle.token().cancelled().await;
            tokio::time::sleep(SHORT_LINGER).await;
        } => (),
    }
}

async fn discard(socket: &TcpStream) {
    let mut buffer = Vec::new();
    let mut discarded = 0;
    while discarded < MAX_DISCARDED && socket.readable().await.is_ok() {
        buffer.resize(16 << 10, 0);
        match socket.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => discarded += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => (),
            Err(_) => return,
        }
    }
}

/// Makes the operating system discard unacknowledged bytes when the socket is closed.
pub(super) fn reset(socket: &TcpStream) {
    // Otherwise they stay in memory for as long as the client keeps the connection. A rejected option is not fatal.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
