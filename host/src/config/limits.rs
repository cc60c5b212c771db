//! Limits of the listeners.

use std::time::Duration;

/// Limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once, streams included, as configured. Further ones wait in the backlog.
    pub max_connections: usize,
    /// Bytes of a request head.
    pub max_head_bytes: usize,
    /// Header lines of a request.
    pub max_headers: usize,
    /// Idle time after which a connection is closed between two requests.
    pub idle_timeout: Duration,
    /// Longest time for which a client may read nothing of a response.
    pub write_timeout: Duration,
    /// Bytes that the kernel may buffer for one connection before they are sent.
    pub send_buffer: u32,
}
