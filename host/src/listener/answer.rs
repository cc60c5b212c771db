//! Passes a request of the HTTP library to the router and returns its response, the same for all kinds of connections.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::IntoResponse;
use http::header::{CONNECTION, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use yardarm_core::hooks::{RequestId, RequestOrigin};
use yardarm_core::stream::Takeover;

use super::Serving;
use super::activity::{Activity, RequestGuard};
use super::body::{AnswerBody, RequestBody};
use super::fanout::AfterStream;
use super::framing::has_odd_coding;
use super::handover::Handover;
use super::progress::Progress;

/// The connection whose requests are answered.
pub(super) struct Caller {
    pub(super) serving: Arc<Serving>,
    pub(super) activity: Arc<Activity>,
    pub(super) peer: SocketAddr,
    pub(super) is_tls: bool,
    /// Set on connections whose streams leave the HTTP library.
    pub(super) handover: Option<Handover>,
}

impl Caller {
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, std::convert::Infallible> {
        let guard = self.activity.begin_request();
        let version = request.version();
        let is_http1 = version <= Version::HTTP_11;
        if is_http1 && (has_odd_coding(request.headers()) || self.activity.has_two_lengths()) {
            return Ok(refused(guard));
        }
        // Under HTTP/2 the library limits bytes only; under HTTP/1 it has limited header lines as well.
        if !is_http1 && request.headers().len() > self.serving.limits.max_headers {
            let response = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response();
            return Ok(response.map(|body| AnswerBody::new(body, guard)));
        }
        let has_coding = request.headers().contains_key(TRANSFER_ENCODING);
        let may_reuse = !asks_to_close(request.headers()) && !has_coding;
        let can_become_stream = version == Version::HTTP_11 && request.method() != Method::HEAD;
        let client = self.serving.proxies.client(self.peer.ip(), request.headers());
        let mut request = request.map(|body| match &self.handover {
            Some(handover) => RequestBody::wrap(body, handover.body_flag()),
            None => Body::new(body),
        });
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let origin = RequestOrigin {
            id: RequestId::next(),
            client,
            peer: self.peer.ip(),
            is_tls: self.is_tls,
            target: request.uri().clone(),
            call_log: None,
        };
        request.extensions_mut().insert(origin);
        let mut response = Arc::clone(&self.serving.service).answer(request).await;
        if version != Version::HTTP_11 {
            response.headers_mut().remove(CONNECTION);
        }
        let takeover = response.extensions_mut().remove::<Takeover>();
        if let Some(handover) = self.handover.as_ref().filter(|_| can_become_stream)
            && let Some(stream) = takeover.as_ref().and_then(Takeover::take)
        {
            let after = match (handover.is_body_read(), may_reuse) {
                (true, true) => AfterStream::Serve,
                (true, false) => AfterStream::Close,
                (false, _) => AfterStream::Discard,
            };
            handover.offer(stream, after);
            if after == AfterStream::Discard {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            return Ok(response.map(|_| AnswerBody::handover(Arc::clone(&self.activity), guard)));
        }
        let stream = takeover.and_then(|it| it.session());
        let progress = if is_http1 { None } else { Progress::of_task() };
        Ok(response.map(|body| AnswerBody::new(body, guard).of_stream(stream).paced(progress)))
    }
}

/// Responds 400 and closes the connection, because the end of the body is ambiguous.
fn refused(guard: RequestGuard) -> Response<AnswerBody> {
    let text = "the request has more than one length, or a transfer coding other than `chunked`\n";
    let mut response = (StatusCode::BAD_REQUEST, text).into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response.map(|body| AnswerBody::new(body, guard))
}

fn asks_to_close(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().any(|it| it.to_str().is_ok_and(|it| it.to_ascii_lowercase().contains("close")))
}
