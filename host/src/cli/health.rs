//! `yardarm health`: an exit code for container probes, without a shell or curl in the image.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use http::Method;

use super::admin_client::{AdminAddress, AdminAnswer};
use crate::exit::Exit;

/// Longest time for a probe, because probes are frequent and must not pile up.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);
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
    match AdminAddress::from(admin).send(&Method::GET, path, None, TIMEOUT).await {
        Ok(AdminAnswer { status, body }) => {
            super::output(&body);
            if status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            super::output(&format!("no answer from {admin}: {error}\n"));
            ExitCode::FAILURE
        }
    }
}
