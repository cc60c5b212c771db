//! Requests of FDv2 and their responses: streams, polls, and the direction to use FDv1 for a while.

use std::time::Duration;

use axum::body::Body;
use futures_util::FutureExt;
use http::{HeaderMap, StatusCode};
use yardarm_core::supervisor::blocking;
use yardarm_vendor::body::{self, BodyError};
use yardarm_vendor::upstream::{self, ConnectionError, Event, Events, NetworkError};
use yardarm_vendor::url;

use super::super::connection::{SHORT_MESSAGE, Switch, Switching};
use crate::data::transfer::{self, ChangeSet, Selector, Step, Transfer, TransferError};
use crate::identity::SdkKey;
use crate::upstream::HttpClients;

/// Time limit for the first poll with its response, which the stream waits for.
pub(super) const FIRST_POLL_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for other polls.
pub(super) const POLL_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest response to a poll, in bytes: as large as the largest event of a stream.
const MAX_POLL: usize = 128 << 20;
/// How long FDv1 is used if the direction has no time, and the longest time that a direction may have.
const USUAL_FALLBACK: Duration = Duration::from_secs(3600);
const MAX_FALLBACK: Duration = Duration::from_secs(24 * 3600);

/// Builds requests.
#[derive(Clone)]
pub(super) struct Fdv2Requests {
    pub(super) http: HttpClients,
    pub(super) stream_url: String,
    pub(super) poll_url: String,
    pub(super) instance_id: String,
}

/// Why a request failed, or a connection has ended.
pub(super) struct Fdv2Failure {
    pub(super) error: ConnectionError,
    /// How long FDv1 should be used, if the service directs it.
    pub(super) fallback: Option<Duration>,
}

/// An open stream.
pub(super) struct OpenTransfer {
    pub(super) events: Events,
    pub(super) transfer: Transfer,
    /// How long FDv1 should be used after the first change set, if the service directs it.
    pub(super) fallback: Option<Duration>,
}

/// The first change set of a connection with another key.
pub(super) struct FirstTransfer {
    pub(super) transfer: Transfer,
    pub(super) set: ChangeSet,
    pub(super) fallback: Option<Duration>,
}

/// The response to a poll.
pub(super) struct Polled {
    pub(super) steps: Vec<Step>,
    /// How long FDv1 should be used afterwards, if the service directs it.
    pub(super) fallback: Option<Duration>,
}

impl From<ConnectionError> for Fdv2Failure {
    fn from(error: ConnectionError) -> Self {
        Self { error, fallback: None }
    }
}

impl Fdv2Requests {
    /// Opens a stream that begins after `basis`.
    pub(super) async fn open(self, key: SdkKey, basis: Option<Selector>) -> Result<OpenTransfer, Fdv2Failure> {
        let request = self.request(&self.http.streams, &self.stream_url, &key, basis.as_ref());
        let request = request.header("accept", "text/event-stream").header("cache-control", "no-cache");
        let response = upstream::send(request).await.map_err(ConnectionError::from)?;
        let fallback = directed_fallback(response.headers());
        if response.status() != StatusCode::OK {
            return Err(Fdv2Failure { error: ConnectionError::Status(response.status()), fallback });
        }
        let events = Events::of_response(response, self.http.read_timeout);
        Ok(OpenTransfer { events, transfer: Transfer::new(basis.is_some()), fallback })
    }

    /// Requests what has changed since `basis`.
    pub(super) async fn poll(
        self,
        key: SdkKey,
        basis: Option<Selector>,
        timeout: Duration,
    ) -> Result<Polled, Fdv2Failure> {
        let request = self.request(&self.http.requests, &self.poll_url, &key, basis.as_ref()).timeout(timeout);
        let response = upstream::send(request).await.map_err(ConnectionError::from)?;
        let fallback = directed_fallback(response.headers());
        let steps = match response.status() {
            StatusCode::OK => steps_of(response, basis.is_some()).await,
            StatusCode::NOT_MODIFIED if basis.is_some() => Ok(vec![Step::UpToDate]),
            status => Err(ConnectionError::Status(status)),
        };
        steps.map(|steps| Polled { steps, fallback }).map_err(|error| Fdv2Failure { error, fallback })
    }

    /// Opens a stream with another key after `delay`, and waits for its data.
    pub(super) fn switch_to(self, key: SdkKey, delay: Duration) -> Switching<FirstTransfer> {
        async move {
            tokio::time::sleep(delay).await;
            let opened = self.open(key.clone(), None).await.map_err(|it| it.error)?;
            let OpenTransfer { mut events, mut transfer, fallback } = opened;
            loop {
                match next_step(events.next().await?, &mut transfer).await? {
                    Step::Complete(set) => {
                        let data = FirstTransfer { transfer, set, fallback };
                        return Ok(Switch { key, events, data });
                    }
                    Step::Goodbye(_) => return Err(ConnectionError::Closed("upstream closes the connection")),
                    Step::Pending | Step::UpToDate => (),
                }
            }
        }
        .boxed()
    }

    fn request(
        &self,
        client: &reqwest::Client,
        url: &str,
        key: &SdkKey,
        basis: Option<&Selector>,
    ) -> reqwest::RequestBuilder {
        let url = match basis {
            Some(basis) => format!("{url}?basis={}", url::encoded(basis.as_str())),
            None => url.to_owned(),
        };
        let request = client.get(url).header("authorization", key.expose());
        request.header("x-launchdarkly-instance-id", &self.instance_id)
    }
}

/// Parses an event and processes it.
pub(super) async fn next_step(event: Event, transfer: &mut Transfer) -> Result<Step, ConnectionError> {
    let Event { event: name, data, .. } = event;
    let size = data.len();
    let parsed = if size <= SHORT_MESSAGE {
        transfer::parse(&name, data)
    } else {
        let name = name.clone();
        blocking("upstream parser", move || transfer::parse(&name, data)).await?
    };
    let step = parsed.and_then(|event| transfer.push(event, size));
    step.map_err(|error| ConnectionError::message(&name, error.to_string()))
}

async fn steps_of(response: reqwest::Response, has_basis: bool) -> Result<Vec<Step>, ConnectionError> {
    let body = body::collect(Body::from_stream(response.bytes_stream()), MAX_POLL, |_| true).await;
    let body = body.map_err(|error| match error {
        BodyError::TooLarge | BodyError::Busy => invalid(&TransferError::TooLarge.to_string()),
        BodyError::Interrupted => NetworkError::Ended.into(),
    })?;
    let body = String::from_utf8(body.into()).map_err(|_| invalid("not a text in UTF-8"))?;
    let parsed = if body.len() <= SHORT_MESSAGE {
        transfer::poll(body, has_basis)
    } else {
        blocking("upstream parser", move || transfer::poll(body, has_basis)).await?
    };
    parsed.map_err(|error| invalid(&error.to_string()))
}

fn invalid(problem: &str) -> ConnectionError {
    ConnectionError::message("poll", problem)
}

/// The time for which the head of a response directs the client to FDv1.
fn directed_fallback(headers: &HeaderMap) -> Option<Duration> {
    let value = |name| headers.get(name).and_then(|it| it.to_str().ok()).map(str::trim);
    let is_directed = value("x-ld-fd-fallback").is_some_and(|it| it.eq_ignore_ascii_case("true"));
    let seconds = value("x-ld-fd-fallback-ttl").and_then(|it| it.parse().ok()).unwrap_or(0);
    is_directed.then(|| fallback_time(seconds))
}

/// The time that a direction means: an hour for `0`, as in the vendor's newest SDKs, and a day at most.
pub(super) fn fallback_time(seconds: u64) -> Duration {
    if seconds == 0 { USUAL_FALLBACK } else { Duration::from_secs(seconds).min(MAX_FALLBACK) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_has_a_time_within_limits() {
        for (value, ttl, seconds) in [
            (Some("true"), None, Some(3600)),
            (Some(" TRUE"), Some("30"), Some(30)),
            (Some("true"), Some("0"), Some(3600)),
            (Some("true"), Some("soon"), Some(3600)),
            (Some("true"), Some("-1"), Some(3600)),
            (Some("true"), Some("999999999"), Some(86400)),
            (Some("false"), Some("30"), None),
            (None, Some("30"), None),
        ] {
            let mut headers = HeaderMap::new();
            let values = [("x-ld-fd-fallback", value), ("x-ld-fd-fallback-ttl", ttl)];
            for (name, value) in values.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                headers.insert(name, value.parse().unwrap());
            }
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(directed_fallback(&headers), expected, "{value:?} {ttl:?}");
        }
    }
}
