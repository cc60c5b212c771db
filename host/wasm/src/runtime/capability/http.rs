//! The import `http`: outbound requests.

use std::sync::Arc;
use std::time::Duration;

use crate::runtime::guest::GuestState;
use crate::runtime::interface::v0_1;
use crate::runtime::interface::v0_1::host::http::{HttpError, HttpRequest, HttpResponse};
use crate::runtime::interface::v0_1::host::types::Header;
use crate::services::http;

impl v0_1::host::http::Host for GuestState {
    async fn send(&mut self, request: HttpRequest) -> wasmtime::Result<Result<HttpResponse, HttpError>> {
        let denied = |text: String| Ok(Err(HttpError::Denied(text)));
        match self.hook {
            None => return denied("requests cannot be sent during `init`".to_owned()),
            Some(hook) if !hook.may_send_requests() => return denied(format!("requests cannot be sent in `{hook}`")),
            Some(_) if self.is_warm_up && self.plugin.services.is_live => {
                return denied("this call is a warm-up".to_owned());
            }
            Some(_) => (),
        }
        let plugin = Arc::clone(&self.plugin);
        let answer = plugin.services.http.send(&plugin.grants, request.into()).await;
        if let Ok(response) = &answer {
            self.count_lent(response.body.len())?;
        }
        Ok(answer.map(HttpResponse::from).map_err(HttpError::from))
    }
}

impl From<HttpRequest> for http::HttpRequest {
    fn from(request: HttpRequest) -> Self {
        Self {
            method: request.method,
            url: request.url,
            headers: request.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            body: request.body,
            timeout: request.timeout_ms.map(|ms| Duration::from_millis(ms.into())),
        }
    }
}

impl From<http::HttpResponse> for HttpResponse {
    fn from(response: http::HttpResponse) -> Self {
        let header = |(name, value)| Header { name, value };
        let headers = response.headers.into_iter().map(header).collect();
        Self { status: response.status, headers, body: response.body.into() }
    }
}

impl From<http::HttpError> for HttpError {
    fn from(error: http::HttpError) -> Self {
        match error {
            http::HttpError::Invalid(text) => Self::Invalid(text),
            http::HttpError::Denied(text) => Self::Denied(text),
            http::HttpError::Busy => Self::Busy,
            http::HttpError::Timeout => Self::Timeout,
            http::HttpError::TooLarge => Self::TooLarge,
            http::HttpError::Connection(text) => Self::Connection(text),
        }
    }
}
