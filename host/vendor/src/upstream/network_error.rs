//! Connections that could not be opened, or broke.

use std::time::Duration;

use super::connection::chain;

/// Why there is no connection, or none any more. URLs are left out, because they may contain keys.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The HTTP library failed; the text contains the causes.
    #[error("{}", chain(.0))]
    Transport(#[source] reqwest::Error),
    /// The library of event streams failed in another way.
    #[error("{}", chain(.0))]
    EventSource(#[source] Box<reqwest_eventsource::Error>),
    /// The stream ended.
    #[error("stream ended")]
    Ended,
    /// Nothing arrived for this time.
    #[error("no event and no comment for {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// Something did not arrive in time.
    #[error("{0} in time")]
    TimedOut(&'static str),
    /// The request has a body that is not in memory, so that it cannot follow a redirect.
    #[error("the request cannot be repeated")]
    NotRepeatable,
}

impl From<reqwest::Error> for NetworkError {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error.without_url())
    }
}
