//! HTTP clients for upstream.

use std::time::Duration;

use super::{Outbound, UpstreamTls};

/// Product token in every upstream request.
const USER_AGENT: &str = concat!("Yardarm/", env!("CARGO_PKG_VERSION"));
/// Time after which an idle connection is probed, so that a lost one is noticed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Returns a builder of HTTP clients for services that belong to no vendor: with the certificate authorities of the system and
/// the proxy of the environment variables. They do not follow redirects either.
pub(super) fn plain_client() -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).referer(false);
    builder.user_agent(USER_AGENT)
}

/// Returns a builder of HTTP clients with the product token, without decompression.
///
/// The clients do not follow redirects by themselves: [`send`](super::send) and [`open`](super::open) do. They send no
/// `Referer`, because the query of an address may contain a key.
///
/// # Errors
/// When the address of the proxy cannot be used.
pub fn client(
    connect_timeout: Duration,
    tls: &UpstreamTls,
    outbound: &Outbound,
) -> Result<reqwest::ClientBuilder, reqwest::Error> {
    let builder = reqwest::Client::builder()
        .use_preconfigured_tls(tls.config())
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(USER_AGENT)
        .connect_timeout(connect_timeout)
        .tcp_keepalive(KEEPALIVE)
        .pool_idle_timeout(outbound.idle_timeout)
        .pool_max_idle_per_host(outbound.max_idle_per_host)
        .no_gzip();
    match &outbound.proxy {
        Some(proxy) => Ok(builder.proxy(reqwest::Proxy::all(proxy.expose())?)),
        None => Ok(builder),
    }
}
