//! The HTTP client of exporters by `http/protobuf`.

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use yardarm_vendor::upstream::HttpSender;

/// Sends with the HTTP client that the rest of the program uses.
#[derive(Debug, Clone)]
pub(super) struct Client(pub(super) HttpSender);

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        Ok(self.0.send(request).await?)
    }
}
