//! HTTP clients for upstream requests.

pub(crate) mod goals;

use std::time::Duration;

use yardarm_core::budget::ByTrust;
use yardarm_vendor::upstream::{self, UpstreamTls};

use crate::config::Config;

/// Clients for upstream requests, shared by all environments so that connections are pooled.
#[derive(Clone)]
pub(crate) struct HttpClients {
    /// For streams: limits silence, not the total time.
    pub(crate) streams: reqwest::Client,
    /// How long a stream may be silent.
    pub(crate) read_timeout: Duration,
    /// For posts and fetches: limits the total time. They follow no
    /// redirects; goals are forwarded with the status that upstream sent.
    pub(crate) requests: reqwest::Client,
    /// The same for events, by kind of credential, because events of mobile and browser SDKs are sent by another runtime.
    pub(crate) events: ByTrust<reqwest::Client>,
}

impl HttpClients {
    /// Builds the clients.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub(crate) fn new(config: &Config, tls: &UpstreamTls) -> Result<Self, reqwest::Error> {
        // The limits are those of ld-relay, except that event posts get ten seconds instead of three, because slow
        // proxies need more.
        let common = || upstream::client(Duration::from_secs(3), tls, &config.outbound);
        let requests = || common()?.timeout(Duration::from_secs(10)).build();
        let (secret, shared) = (requests()?, requests()?);
        Ok(Self {
            streams: common()?.read_timeout(config.read_timeout).build()?,
            read_timeout: config.read_timeout,
            requests: secret.clone(),
            events: ByTrust { secret, embedded: shared.clone(), public: shared },
        })
    }
}
