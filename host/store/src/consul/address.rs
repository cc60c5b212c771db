//! `host[:port]` or `http(s)://host[:port]`, with a token.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use reqwest::Client;
use tokio::sync::OnceCell;
use url::Url;

use crate::http::{Scheme, client};
use crate::{Failure, StoreError};

/// Port of Consul's HTTP API.
const DEFAULT_PORT: u16 = 8500;

/// Address and token of a Consul agent. Clones share connections. Its `Debug` does not show the token.
#[derive(Clone)]
pub struct ConsulAddress {
    base: Url,
    token: Option<HeaderValue>,
    shown: Arc<str>,
    /// Created with the first request, because TLS reads the certificates of the system.
    client: Arc<OnceCell<Client>>,
}

/// An address or a token cannot be used. The message repeats neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConsulAddress {
    /// The address.
    #[error("must be an address such as `host:8500`, or `https://host:8501` for TLS, without user name and path")]
    Address,
    /// The token.
    #[error("contains characters that no token has")]
    Token,
}

impl ConsulAddress {
    /// Parses an address. Without a scheme it is `http`, on port 8500 unless another one is given.
    ///
    /// # Errors
    /// When the text is not such an address, or the token cannot be sent.
    pub fn parse(text: &str, token: Option<&str>) -> Result<Self, InvalidConsulAddress> {
        let has_scheme = text.contains("://");
        let full = if has_scheme { text.to_owned() } else { format!("http://{text}") };
        let mut base = Url::parse(&full).map_err(|_| InvalidConsulAddress::Address)?;
        let is_plain = base.username().is_empty()
            && base.password().is_none()
            && base.query().is_none()
            && base.fragment().is_none()
            && base.path() == "/";
        let has_host = base.host_str().is_some_and(|it| !it.is_empty());
        if !matches!(base.scheme(), "http" | "https") || !is_plain || !has_host {
            return Err(InvalidConsulAddress::Address);
        }
        if !has_scheme && !has_port(text) {
            base.set_port(Some(DEFAULT_PORT)).map_err(|()| InvalidConsulAddress::Address)?;
        }
        let token = token.map(HeaderValue::from_str).transpose().map_err(|_| InvalidConsulAddress::Token)?;
        let token = token.map(|mut it| {
            it.set_sensitive(true);
            it
        });
        Ok(Self { base, token, shown: text.trim_end_matches('/').into(), client: Arc::default() })
    }

    /// Returns the address as it was given.
    #[must_use]
    pub fn shown(&self) -> &Arc<str> {
        &self.shown
    }

    pub(super) fn token(&self) -> Option<&HeaderValue> {
        self.token.as_ref()
    }

    /// Returns the address of a resource; `path` is encoded already and begins with a slash.
    pub(super) fn url(&self, path: &str, query: Option<&str>) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url.set_query(query);
        url
    }

    pub(super) async fn client(&self) -> Result<&Client, StoreError> {
        let scheme = if self.base.scheme() == "https" { Scheme::Https } else { Scheme::Http };
        let created = self.client.get_or_try_init(|| async { client(scheme) }).await;
        created.map_err(|error: Failure| error.into())
    }
}

/// Whether an address without a scheme ends in a port. The colons of an IPv6 address are followed by a bracket.
fn has_port(text: &str) -> bool {
    let port = text.trim_end_matches('/').rsplit_once(':').map(|it| it.1);
    port.is_some_and(|it| !it.is_empty() && it.bytes().all(|digit| digit.is_ascii_digit()))
}

impl fmt::Debug for ConsulAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConsulAddress").field(&self.shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_added_to_a_bare_host() {
        for (text, base) in [
            ("localhost", "http://localhost:8500/"),
            ("localhost:80", "http://localhost/"),
            ("10.0.0.1:9", "http://10.0.0.1:9/"),
            ("[::1]", "http://[::1]:8500/"),
            ("[::1]:7", "http://[::1]:7/"),
            ("http://host", "http://host/"),
            ("https://host:8501/", "https://host:8501/"),
        ] {
            let address = ConsulAddress::parse(text, Some("canary")).expect(text);
            assert_eq!(address.base.as_str(), base);
            let shown = text.trim_end_matches('/');
            assert_eq!(&**address.shown(), shown);
            assert_eq!(format!("{address:?}"), format!("ConsulAddress({shown:?})"));
        }
    }

    #[test]
    fn other_texts_are_refused_without_being_repeated() {
        for text in ["", ":8500", "user:canary@host", "ftp://host", "host/canary", "host?canary", "http://", "a b"] {
            let error = ConsulAddress::parse(text, None).expect_err(text);
            assert!(error == InvalidConsulAddress::Address && !error.to_string().contains("canary"), "{text}");
        }
        let error = ConsulAddress::parse("host", Some("can\nary")).expect_err("a token");
        assert_eq!(error, InvalidConsulAddress::Token);
    }
}
