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
    /// Silence after which a connection is closed between two requests.
    pub idle_timeout: Duration,
    /// Longest time in which a client takes nothing of what it is sent.
    pub write_timeout: Duration,
    /// Bytes that wait in the kernel for one connection until they can be sent.
    pub send_buffer: u32,
}
