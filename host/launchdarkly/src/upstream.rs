//! Where flags come from and where events go: one task per environment that connects, reads, applies and reports.

pub(crate) mod goals;

use std::time::Duration;

use yardarm_core::budget::ByTrust;

use crate::config::Config;

/// Product token in every upstream request.
pub(crate) const USER_AGENT: &str = concat!("Yardarm/", env!("CARGO_PKG_VERSION"));

/// Clients for upstream requests. Connections are pooled, so everybody shares these.
#[derive(Clone)]
pub(crate) struct HttpClients {
    /// For streams: no time limit on the whole, but on silence.
    pub(crate) streams: reqwest::Client,
    /// How long a stream may be silent.
    pub(crate) read_timeout: Duration,
    /// For posts and fetches: a time limit on the whole. What is passed through is sent without following redirects, which
    /// are the caller's business.
    pub(crate) requests: reqwest::Client,
    /// The same for events, by credential, because those of callers that anybody can be are sent by another runtime.
    pub(crate) events: ByTrust<reqwest::Client>,
}

impl HttpClients {
    /// Builds the clients.
    ///
    /// # Errors
    /// When the system's certificates or the TLS library cannot be set up.
    pub(crate) fn new(config: &Config) -> Result<Self, reqwest::Error> {
        // The limits are those of ld-relay (upstream page, sections 1.1 and 7.3), except that event posts get ten
        // seconds instead of three, because slow proxies need more.
        let common = || {
            yardarm_outbound::client()
                .user_agent(USER_AGENT)
                .connect_timeout(Duration::from_secs(3))
                .tcp_keepalive(Duration::from_secs(60))
                .no_gzip()
        };
        let requests = || common().timeout(Duration::from_secs(10)).build();
        let (secret, shared) = (requests()?, requests()?);
        Ok(Self {
            streams: common().read_timeout(config.read_timeout).build()?,
            read_timeout: config.read_timeout,
            requests: secret.clone(),
            events: ByTrust { secret, embedded: shared.clone(), public: shared },
        })
    }
}
