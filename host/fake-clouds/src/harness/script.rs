//! Failures on command, by suffix of the request's path.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::{FakeHarness, Sent, answers};

/// A response in place of the usual one. A status converts to one: `503.into()`.
#[derive(Debug, Clone)]
pub struct HarnessAnswer {
    status: u16,
    headers: Vec<(String, String)>,
    /// Content type and text; `None` for the vendor's error object.
    body: Option<(String, String)>,
    is_cut: bool,
}

#[derive(Default)]
pub(super) struct Script {
    next: Vec<(String, VecDeque<HarnessAnswer>)>,
    delays: Vec<(String, Duration)>,
}

impl From<u16> for HarnessAnswer {
    fn from(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: None, is_cut: false }
    }
}

impl HarnessAnswer {
    /// Creates a response that ends midway together with the connection.
    #[must_use]
    pub fn cut() -> Self {
        Self { is_cut: true, ..Self::from(200) }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a body and its content type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: &str) -> Self {
        self.body = Some((content_type.to_owned(), body.to_owned()));
        self
    }
}

impl IntoResponse for HarnessAnswer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if self.is_cut {
            let parts = [Ok(Bytes::from_static(b"{\"authTo")), Err(std::io::Error::other("cut"))];
            let body = Body::from_stream(futures_util::stream::iter(parts));
            return (status, [(CONTENT_TYPE, "application/json")], body).into_response();
        }
        let mut response = match self.body {
            Some((content_type, body)) => (status, [(CONTENT_TYPE, content_type)], body).into_response(),
            None => answers::error(status, "ordered by a test"),
        };
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl Script {
    pub(super) fn next(&mut self, path: &str) -> Option<HarnessAnswer> {
        self.next.iter_mut().filter(|(suffix, _)| path.ends_with(suffix)).find_map(|(_, answers)| answers.pop_front())
    }

    pub(super) fn delay(&self, path: &str) -> Duration {
        self.delays.iter().rev().find(|(suffix, _)| path.ends_with(suffix)).map_or(Duration::ZERO, |it| it.1)
    }
}

impl FakeHarness {
    /// Answers the next requests whose path, without query, has this suffix with these responses, one each.
    pub fn answers_next<A: Into<HarnessAnswer>>(&self, path_suffix: &str, answers: impl IntoIterator<Item = A>) {
        self.lock().script.next.push((path_suffix.to_owned(), answers.into_iter().map(Into::into).collect()));
    }

    /// Delays every response to requests whose path, without query, has this suffix. The last call counts.
    pub fn delays(&self, path_suffix: &str, delay: Duration) {
        self.lock().script.delays.push((path_suffix.to_owned(), delay));
    }

    /// Removes scripted responses that have not been sent.
    pub fn clears_script(&self) {
        self.lock().script.next.clear();
    }

    /// Ends all streams and answers every request with 503, until [`Self::comes_back`].
    pub fn goes_down(&self) {
        self.lock().is_down = true;
        self.closes_all_streams();
    }

    /// Answers requests again.
    pub fn comes_back(&self) {
        self.lock().is_down = false;
    }

    /// Ends all streams and answers new ones with 503, until [`Self::streams_come_back`].
    pub fn streams_go_down(&self) {
        self.lock().streams_are_down = true;
        self.closes_all_streams();
    }

    /// Accepts streams again.
    pub fn streams_come_back(&self) {
        self.lock().streams_are_down = false;
    }

    fn closes_all_streams(&self) {
        let cloud = self.lock();
        let proxies = cloud.proxies.values().map(|it| &it.events);
        for events in cloud.environments.values().map(|it| &it.events).chain(proxies) {
            // It is fine if no stream is open.
            let _ = events.send(Sent::Close);
        }
    }
}
