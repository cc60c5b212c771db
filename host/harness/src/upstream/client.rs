//! HTTP clients for upstream requests.

use std::time::Duration;

use yardarm_vendor::upstream::{self, UpstreamTls};

use crate::config::Config;

/// HTTP clients for upstream requests, shared by all environments because they pool connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HttpClients {
    /// For streams: limits the time between bytes, but not the whole.
    pub(super) streams: reqwest::Client,
    /// Longest time between bytes of a stream.
    pub(super) read_timeout: Duration,
    /// For other requests: limits the whole time.
    pub(crate) requests: reqwest::Client,
}

impl HttpClients {
    /// Builds the clients.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub(crate) fn new(config: &Config, tls: &UpstreamTls) -> Result<Self, reqwest::Error> {
        let read_timeout = config.read_timeout;
        let common = || upstream::client(Duration::from_secs(10), tls, &config.outbound);
        Ok(Self {
            streams: common()?.read_timeout(read_timeout).build()?,
            read_timeout,
            requests: common()?.timeout(Duration::from_secs(60)).build()?,
        })
    }
}
