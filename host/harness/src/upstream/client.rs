//! HTTP clients for upstream requests.

use std::time::Duration;

/// Product token in every upstream request.
const USER_AGENT: &str = concat!("Yardarm/", env!("CARGO_PKG_VERSION"));

/// Clients for upstream requests. Connections are pooled, so everybody shares these.
#[derive(Clone)]
pub(crate) struct HttpClients {
    /// For streams: no time limit on the whole, but on silence.
    pub(super) streams: reqwest::Client,
    /// How long a stream may be silent.
    pub(super) read_timeout: Duration,
    /// For everything else: a time limit on the whole.
    pub(crate) requests: reqwest::Client,
}

impl HttpClients {
    /// Builds the clients.
    ///
    /// # Errors
    /// When the system's certificates or the TLS library cannot be set up.
    pub(crate) fn new(read_timeout: Duration) -> Result<Self, reqwest::Error> {
        let common = || {
            yardarm_vendor::upstream::client()
                .user_agent(USER_AGENT)
                .connect_timeout(Duration::from_secs(10))
                .tcp_keepalive(Duration::from_secs(60))
                .no_gzip()
        };
        Ok(Self {
            streams: common().read_timeout(read_timeout).build()?,
            read_timeout,
            requests: common().timeout(Duration::from_secs(60)).build()?,
        })
    }
}
