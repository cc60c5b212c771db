//! `yardarm health`: an exit code for container probes, without a shell or curl in the image.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::exit::Exit;

/// Longest time for a probe, because probes are frequent and must not pile up.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Longest response that is read, in bytes: `/ready` has a line for each environment.
const MAX_ANSWER: u64 = 1 << 20;
/// Default address of the admin listener.
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8040);

/// Returns exit code 0 for healthy and 1 otherwise, the only two that container runtimes allow.
pub(super) async fn health(admin: Option<SocketAddr>, ready: bool) -> ExitCode {
    let set = std::env::var("YARDARM_ADMIN_LISTEN").unwrap_or_default();
    let admin = match (admin, set.trim()) {
        (Some(admin), _) => admin,
        (None, "") => DEFAULT_ADMIN,
        (None, text) => match text.parse() {
            Ok(admin) => admin,
            Err(_) => {
                crate::logging::print_error(
                    "error: variable YARDARM_ADMIN_LISTEN must be an address with a port, such as `127.0.0.1:8040`",
                );
                return Exit::Usage.into();
            }
        },
    };
    let path = if ready { "/ready" } else { "/live" };
    match get(admin, path).await {
        Ok((is_fine, body)) => {
            super::output(&body);
            if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            super::output(&format!("no answer from {admin}: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Returns the response body of an admin listener, and whether its status was 200.
pub(super) async fn get(admin: SocketAddr, path: &str) -> std::io::Result<(bool, String)> {
    let answer = tokio::time::timeout(TIMEOUT, query(reachable(admin), path)).await;
    answer.unwrap_or_else(|_| Err(std::io::Error::other(format!("none within {} s", TIMEOUT.as_secs()))))
}

/// Returns the address to connect to; a listener on all addresses is reached by the loopback address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback = match address.ip() {
        IpAddr::V4(it) if it.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(it) if it.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    };
    SocketAddr::new(loopback, address.port())
}

/// Sends one request by hand, because a probe needs no HTTP client with certificates and pools.
async fn query(admin: SocketAddr, path: &str) -> std::io::Result<(bool, String)> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let is_fine = answer.split_whitespace().nth(1) == Some("200");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    Ok((is_fine, body))
}
