//! Requests to a Consul agent (<https://developer.hashicorp.com/consul/api-docs/kv>).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{RequestBuilder, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ConsulAddress;
use crate::http::{body, unreachable};
use crate::{Failure, StoreError, Trouble};

/// Characters of keys that are encoded in paths. A slash separates the levels of keys.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");
/// In every response of the key/value store, also where no key was found. A 404 without it is another server's.
const INDEX: HeaderName = HeaderName::from_static("x-consul-index");

/// The HTTP API of an agent.
pub(super) struct Agent(ConsulAddress);

/// A key with its value.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Bytes,
    /// Increases with each change.
    pub(super) modify_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireEntry {
    key: String,
    /// Base64; `None` for an empty value.
    #[serde(default)]
    value: Option<String>,
    modify_index: u64,
}

impl Agent {
    pub(super) fn new(address: &ConsulAddress) -> Self {
        Self(address.clone())
    }

    /// Returns a key; `None` if it does not exist.
    pub(super) async fn entry(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let found: Option<Vec<WireEntry>> = self.get(key, None).await?;
        found.and_then(|it| it.into_iter().next()).map(Entry::try_from).transpose()
    }

    /// Returns all keys with a prefix.
    pub(super) async fn entries(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let found: Option<Vec<WireEntry>> = self.get(prefix, Some("recurse")).await?;
        found.unwrap_or_default().into_iter().map(Entry::try_from).collect()
    }

    /// Returns the names of all keys with a prefix.
    pub(super) async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.get(prefix, Some("keys")).await?.unwrap_or_default())
    }

    /// Writes a key.
    pub(super) async fn put(&self, key: &str, value: Bytes) -> Result<(), StoreError> {
        let is_written = self.write(key, None, value).await?;
        if is_written { Ok(()) } else { Err(Failure::new(Trouble::Refused, "Consul did not write a key").into()) }
    }

    /// Writes a key that has not changed since `modify_index`; 0 means that it must not exist. Returns whether it was
    /// written.
    pub(super) async fn put_if(&self, key: &str, value: Bytes, modify_index: u64) -> Result<bool, StoreError> {
        self.write(key, Some(format!("cas={modify_index}")), value).await
    }

    /// Executes a transaction.
    pub(super) async fn transact(&self, operations: Vec<u8>) -> Result<(), StoreError> {
        let request = self.request(Method::PUT, "/v1/txn", None).await?;
        let response = request.body(operations).send().await.map_err(unreachable)?;
        checked(response).await.map(|_| ())
    }

    async fn write(&self, key: &str, query: Option<String>, value: Bytes) -> Result<bool, StoreError> {
        let request = self.request(Method::PUT, &path(key), query.as_deref()).await?;
        let response = checked(request.body(value).send().await.map_err(unreachable)?).await?;
        parsed(&body(response).await?)
    }

    /// `None` where nothing was found.
    async fn get<T: DeserializeOwned>(&self, key: &str, query: Option<&str>) -> Result<Option<T>, StoreError> {
        let request = self.request(Method::GET, &path(key), query).await?;
        let response = request.send().await.map_err(unreachable)?;
        if response.status() == StatusCode::NOT_FOUND && response.headers().contains_key(INDEX) {
            return Ok(None);
        }
        parsed(&body(checked(response).await?).await?).map(Some)
    }

    async fn request(&self, method: Method, path: &str, query: Option<&str>) -> Result<RequestBuilder, StoreError> {
        let request = self.0.client().await?.request(method, self.0.url(path, query));
        Ok(match self.0.token() {
            Some(token) => request.header(TOKEN, token.clone()),
            None => request,
        })
    }
}

fn path(key: &str) -> String {
    format!("/v1/kv/{}", utf8_percent_encode(key, ENCODED))
}

fn parsed<T: DeserializeOwned>(text: &[u8]) -> Result<T, StoreError> {
    let failure = |error| Failure::new(Trouble::Refused, format!("the response is not Consul's: {error}"));
    Ok(serde_json::from_slice(text).map_err(failure)?)
}

/// Returns a response with status 200, and the reason why it has another one otherwise.
async fn checked(response: Response) -> Result<Response, StoreError> {
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let text = body(response).await?;
    let text = String::from_utf8_lossy(&text);
    let trouble = trouble(status, &text);
    Err(Failure::new(trouble, format!("Consul answered {}: {}", status.as_u16(), text.trim())).into())
}

/// Returns the class of a failure. Consul has no codes, so some are recognized by their text.
fn trouble(status: StatusCode, text: &str) -> Trouble {
    let has = |part: &str| text.to_ascii_lowercase().contains(part);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Trouble::Denied,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Trouble::Busy,
        // The agent passes on the text of a server.
        StatusCode::INTERNAL_SERVER_ERROR if has("permission denied") || has("acl not found") => Trouble::Denied,
        StatusCode::INTERNAL_SERVER_ERROR if has("leader") || has("rate limit") => Trouble::Busy,
        StatusCode::INTERNAL_SERVER_ERROR if has("no known consul servers") => Trouble::Unreachable,
        // A transaction that the rules of the token do not permit.
        StatusCode::CONFLICT if has("permission denied") => Trouble::Denied,
        _ => Trouble::Refused,
    }
}

impl TryFrom<WireEntry> for Entry {
    type Error = StoreError;

    fn try_from(wire: WireEntry) -> Result<Self, StoreError> {
        let failure = |_| Failure::new(Trouble::Refused, "a value of Consul is not base64");
        let value = STANDARD.decode(wire.value.unwrap_or_default()).map_err(failure)?.into();
        Ok(Self { key: wire.key, value, modify_index: wire.modify_index })
    }
}
