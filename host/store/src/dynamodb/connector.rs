//! Sends the requests of the SDK of AWS by the HTTP client that everything else uses.

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use reqwest::Client;

use crate::http::{Scheme, body, client, unreachable};
use crate::{Failure, StoreError};

/// The clients. Services without TLS, such as that of the machine's own credentials, are never behind a proxy.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    http: Client,
    https: Client,
}

impl Connector {
    pub(super) fn new() -> Result<Self, StoreError> {
        Ok(Self { http: client(Scheme::Http)?, https: client(Scheme::HttpsThroughProxy)? })
    }
}

impl HttpClient for Connector {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let (parts, content) = request.into_parts();
            // Requests to DynamoDB and to services of credentials have their whole body in memory.
            let content = content.bytes().map(Bytes::copy_from_slice).unwrap_or_default();
            let url = parts.uri.to_string();
            let client = if parts.uri.scheme_str() == Some("http") { &connector.http } else { &connector.https };
            let request = client.request(parts.method, url).headers(parts.headers).body(content);
            let response = request.send().await.map_err(|error| failed(unreachable(error)))?;
            let mut answer = http::Response::builder().status(response.status());
            if let Some(headers) = answer.headers_mut() {
                headers.clone_from(response.headers());
            }
            let content = body(response).await.map_err(failed)?;
            let answer = answer.body(SdkBody::from(content)).map_err(|error| ConnectorError::user(error.into()))?;
            HttpResponse::try_from(answer).map_err(|error| ConnectorError::user(error.into()))
        })
    }
}

fn failed(failure: Failure) -> ConnectorError {
    ConnectorError::io(StoreError::from(failure).into())
}
