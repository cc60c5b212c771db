//! `yardarm health`: an exit code for container probes, without a shell or curl in the image.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Probes are asked often and must not pile up.
const PATIENCE: Duration = Duration::from_secs(3);
const MAX_ANSWER: u64 = 4096;

pub(super) async fn health(admin: SocketAddr, ready: bool) -> ExitCode {
    let path = if ready { "/ready" } else { "/live" };
    match tokio::time::timeout(PATIENCE, ask(admin, path)).await {
        Ok(Ok((true, body))) => {
            super::output(&body);
            ExitCode::SUCCESS
        }
        Ok(Ok((false, body))) => {
            super::output(&body);
            ExitCode::FAILURE
        }
        Ok(Err(error)) => {
            super::output(&format!("no answer from {admin}: {error}\n"));
            ExitCode::FAILURE
        }
        Err(_) => {
            super::output(&format!("no answer from {admin} within {} s\n", PATIENCE.as_secs()));
            ExitCode::FAILURE
        }
    }
}

/// One request by hand: a probe needs no HTTP client with certificates and pools.
async fn ask(admin: SocketAddr, path: &str) -> std::io::Result<(bool, String)> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer).await?;
    let is_fine = answer.split_whitespace().nth(1) == Some("200");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    Ok((is_fine, body))
}
