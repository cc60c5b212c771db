//! The span of a connection to upstream, from the request to the end.

use reqwest::Url;
use tracing::Span;

/// Returns the span of a connection to `url`, which adds the host to log lines; the rest of the address may contain keys.
#[must_use]
pub fn connection_span(url: &str) -> Span {
    let host = Url::parse(url).ok().and_then(|it| it.host_str().map(str::to_owned));
    // At the highest level, so that no filter of the log takes the host away from its lines.
    tracing::error_span!("connection", upstream = host)
}
