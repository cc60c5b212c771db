//! `redis://[user[:password]@]host[:port][/database]`, and its display without the password.

use std::fmt;
use std::sync::Arc;

use std::time::Duration;

use redis::{Client, ClientTlsConfig, ConnectionAddr, TlsCertificates};
use url::Url;

/// Address and credentials of a Redis server. Its `Debug` does not show the password.
#[derive(Clone)]
pub struct RedisAddress {
    client: Client,
    shown: Arc<str>,
    pub(super) limits: TimeLimits,
}

/// Longest times for parts of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLimits {
    /// For opening a connection, including TLS and authentication.
    pub(super) connect: Duration,
    /// For an operation on single keys, including the wait for a connection.
    pub(super) quick: Duration,
}

/// Certificates and keys, in PEM, that TLS needs beside those of the system.
#[derive(Clone, Default)]
pub struct RedisCertificates {
    /// Authorities that are trusted in place of those of the system.
    pub authorities: Option<Vec<u8>>,
    /// The certificate and the key that the gateway presents.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

/// Certificates cannot be used. The message does not repeat them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has no certificate or key in PEM that can be used")]
pub struct InvalidCertificates;

/// An invalid address. The message does not repeat it, because it may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an address such as `redis://user:password@host:6379/0` or `rediss://…` for TLS")]
pub struct InvalidAddress;

impl RedisAddress {
    /// Parses an address. `tls` makes `redis:` mean `rediss:`; `user` and `password` replace those in the text.
    ///
    /// # Errors
    /// When the text is not such an address.
    pub fn parse(text: &str, tls: bool, user: Option<&str>, password: Option<&str>) -> Result<Self, InvalidAddress> {
        let mut url = Url::parse(text).map_err(|_| InvalidAddress)?;
        let is_known = matches!(url.scheme(), "redis" | "rediss");
        // A query or a fragment is not part of this form; the library has options there that disable TLS verification.
        let is_plain = url.query().is_none() && url.fragment().is_none();
        if !is_known || !is_plain || url.host_str().is_none_or(str::is_empty) {
            return Err(InvalidAddress);
        }
        if tls {
            url.set_scheme("rediss").map_err(|()| InvalidAddress)?;
        }
        let shown = shown(&url);
        if let Some(user) = user {
            url.set_username(user).map_err(|()| InvalidAddress)?;
        }
        if let Some(password) = password {
            url.set_password(Some(password)).map_err(|()| InvalidAddress)?;
        }
        if url.scheme() == "rediss" {
            // The library uses the process's default provider and panics where two are compiled in and none is
            // installed. It is fine if one is installed already.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = Client::open(url).map_err(|_| InvalidAddress)?;
        let limits = TimeLimits { connect: Duration::from_secs(3), quick: Duration::from_secs(3) };
        Ok(Self { client, shown, limits })
    }

    /// Returns whether connections use TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        matches!(self.client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Uses certificates for TLS, which the address must have.
    ///
    /// # Errors
    /// When they are not in PEM.
    pub fn with_certificates(mut self, certificates: RedisCertificates) -> Result<Self, InvalidCertificates> {
        let RedisCertificates { authorities, client } = certificates;
        if authorities.is_some() || client.is_some() {
            let client_tls = client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
            let certificates = TlsCertificates { client_tls, root_cert: authorities };
            let info = self.client.get_connection_info().clone();
            self.client = Client::build_with_tls(info, certificates).map_err(|_| InvalidCertificates)?;
        }
        Ok(self)
    }

    /// Limits the time for opening a connection, and for an operation on single keys.
    #[must_use]
    pub fn with_time_limits(mut self, connect: Duration, operation: Duration) -> Self {
        self.limits = TimeLimits { connect, quick: operation };
        self
    }

    /// Returns the address with `xxxxx` in place of a password.
    #[must_use]
    pub fn shown(&self) -> &Arc<str> {
        &self.shown
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }
}

fn shown(url: &Url) -> Arc<str> {
    let mut url = url.clone();
    if url.password().is_some() && url.set_password(Some("xxxxx")).is_err() {
        return "redis".into();
    }
    url.as_str().into()
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisAddress").field(&self.shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (text, tls, shown) in [
            ("redis://localhost:6379", false, "redis://localhost:6379"),
            ("redis://localhost:6379", true, "rediss://localhost:6379"),
            ("redis://:canary@localhost", false, "redis://:xxxxx@localhost"),
            ("rediss://user:canary@10.0.0.1:7000/3", false, "rediss://user:xxxxx@10.0.0.1:7000/3"),
            ("redis://user@[::1]:7000/3", false, "redis://user@[::1]:7000/3"),
            ("redis://user:can%40ry%2F@host", false, "redis://user:xxxxx@host"),
        ] {
            let address = RedisAddress::parse(text, tls, None, None).expect(text);
            assert_eq!(&**address.shown(), shown);
            assert_eq!(format!("{address:?}"), format!("RedisAddress({shown:?})"));
        }
        let apart = RedisAddress::parse("redis://host", false, Some("user"), Some("p@ss/word")).expect("an address");
        assert_eq!(&**apart.shown(), "redis://host");
        let info = apart.client.get_connection_info().redis_settings().clone();
        assert_eq!((info.username(), info.password()), (Some("user"), Some("p@ss/word")));
    }

    #[test]
    fn other_texts_are_refused_without_being_repeated() {
        for text in [
            "",
            "localhost:6379",
            "http://canary@host",
            "redis://",
            "redis:///0",
            "redis://:can/ary@host",
            "redis://:can?ary@host",
            "redis://host/first",
            "redis://host/0?protocol=canary",
            "rediss://host/0#insecure",
            "redis+unix:///canary",
        ] {
            let error = RedisAddress::parse(text, false, None, None).expect_err(text);
            assert!(!error.to_string().contains("canary"));
        }
    }
}
