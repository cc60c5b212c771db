//! Admits requests that are signed with a shared secret.
//!
//! A caller sends the time in Unix seconds and the signature: HMAC-SHA-256, in hexadecimal digits, of the time, the method and
//! the target as sent, separated by line feeds:
//!
//! ```text
//! 1767225600
//! GET
//! /sdk/flags?filter=web
//! ```

use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha2::Sha256;
use yardarm_plugin::{
    Decision, Denial, DenialClass, Plugin, PluginError, Request, RequestAuth, Result, clock, metrics,
};

/// The header with the time of the request.
const TIMESTAMP: &str = "x-timestamp";
/// The header with the signature.
const SIGNATURE: &str = "x-signature";
/// Shorter secrets can be found by trying.
const SHORTEST_KEY: usize = 16;

/// The configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The shared secret.
    key: String,
    /// The secret before, which is accepted as well while callers move to the new one.
    previous_key: Option<String>,
    /// Seconds by which the time of a request may differ from that of the gateway.
    #[serde(default = "usual_tolerance")]
    tolerance_s: u64,
}

/// The plugin.
struct SignedRequest {
    keys: Vec<Hmac<Sha256>>,
    tolerance_s: u64,
}

impl Plugin for SignedRequest {
    type Config = Config;

    fn new(Config { key, previous_key, tolerance_s }: Config) -> Result<Self> {
        let keys = [("key", Some(key)), ("previous_key", previous_key)].into_iter();
        let keys = keys.filter_map(|(name, key)| Some(hmac(name, &key?))).collect::<Result<_>>()?;
        Ok(Self { keys, tolerance_s })
    }
}

impl RequestAuth for SignedRequest {
    fn authenticate(&self, request: &dyn Request) -> Result<Decision> {
        let target =
            request.path().ok_or_else(|| PluginError::invalid_input("no path: the plugin needs the grant `path`"))?;
        let target = request.query().map_or(target.clone(), |query| format!("{target}?{query}"));
        Ok(match self.check(request, &target, clock::unix_ms() / 1_000) {
            Ok(()) => Decision::allow_unnamed(),
            Err(reason) => {
                metrics::count("refused_total", 1, &[("reason", reason)]);
                Decision::deny(Denial::from(DenialClass::Unauthorized).because(reason))
            }
        })
    }
}

impl SignedRequest {
    /// Checks time and signature; the error is the reason for a refusal.
    fn check(&self, request: &dyn Request, target: &str, now: u64) -> Result<(), &'static str> {
        let timestamp = request.header(TIMESTAMP).ok_or("no-timestamp")?;
        let time: u64 = timestamp.parse().map_err(|_| "no-timestamp")?;
        let signature = request.header(SIGNATURE).and_then(|text| from_hex(&text)).ok_or("no-signature")?;
        let message = format!("{timestamp}\n{}\n{target}", request.method());
        // Compares in constant time.
        let is_signed = |key: &Hmac<Sha256>| key.clone().chain_update(&message).verify_slice(&signature).is_ok();
        if !self.keys.iter().any(is_signed) {
            return Err("bad-signature");
        }
        if now.abs_diff(time) > self.tolerance_s { Err("out-of-time") } else { Ok(()) }
    }
}

fn hmac(name: &str, key: &str) -> Result<Hmac<Sha256>> {
    if key.len() < SHORTEST_KEY {
        let text = format_args!("`{name}`: a secret of at least {SHORTEST_KEY} bytes is needed");
        return Err(PluginError::invalid_input(text));
    }
    Hmac::new_from_slice(key.as_bytes()).map_err(PluginError::internal)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()).collect()
}

fn usual_tolerance() -> u64 {
    300
}

yardarm_plugin::export!(
    SignedRequest: request_auth;
    manifest = r#"{"grants": [
        {"grant": "clock", "why": "to know whether a signature is too old"},
        {"grant": "header:x-signature", "why": "the signature"},
        {"grant": "header:x-timestamp", "why": "its time"},
        {"grant": "path", "why": "it is signed"},
        {"grant": "query", "why": "it is signed", "optional": true},
        {"grant": "secret:*", "why": "the key of signatures"}
    ]}"#,
);

#[cfg(test)]
mod tests {
    use yardarm_plugin::from_config;
    use yardarm_plugin::testing::{TestRequest, set_time};

    use super::*;

    const KEY: &str = "sixteen bytes, or more";
    const NOW: u64 = 1_767_225_600;

    fn plugin() -> SignedRequest {
        from_config(&format!(r#"{{"key": "{KEY}", "previous_key": "that of last month", "tolerance_s": 300}}"#))
            .unwrap()
    }

    fn signed(key: &str, time: u64, method: &str, target: &str) -> TestRequest {
        let message = format!("{time}\n{method}\n{target}");
        let signature = hmac("key", key).unwrap().chain_update(message).finalize().into_bytes();
        TestRequest::default()
            .with_target(method, target)
            .with_header(TIMESTAMP, time.to_string())
            .with_header(SIGNATURE, format!("{signature:x}"))
    }

    fn refusal(request: &TestRequest) -> Option<String> {
        set_time(NOW * 1_000);
        match plugin().authenticate(request).unwrap() {
            Decision::Deny(denial) => {
                assert_eq!(denial.class, DenialClass::Unauthorized);
                denial.reason
            }
            _ => None,
        }
    }

    #[test]
    fn a_signature_covers_time_method_and_target() {
        for (request, expected) in [
            (signed(KEY, NOW, "GET", "/sdk/flags?a=b"), None),
            (signed("that of last month", NOW, "GET", "/sdk/flags"), None),
            (signed("another secret key", NOW, "GET", "/sdk/flags"), Some("bad-signature")),
            (signed(KEY, NOW - 300, "GET", "/sdk/flags"), None),
            (signed(KEY, NOW - 301, "GET", "/sdk/flags"), Some("out-of-time")),
            (signed(KEY, NOW + 301, "GET", "/sdk/flags"), Some("out-of-time")),
            (signed(KEY, NOW, "GET", "/a").with_target("GET", "/b"), Some("bad-signature")),
            (signed(KEY, NOW, "GET", "/a").with_target("POST", "/a"), Some("bad-signature")),
            (signed(KEY, NOW, "GET", "/a").with_target("GET", "/a?b"), Some("bad-signature")),
            (TestRequest::default(), Some("no-timestamp")),
            (TestRequest::default().with_header(TIMESTAMP, "now"), Some("no-timestamp")),
            (TestRequest::default().with_header(TIMESTAMP, "1"), Some("no-signature")),
            (TestRequest::default().with_header(TIMESTAMP, "1").with_header(SIGNATURE, "0g"), Some("no-signature")),
            (TestRequest::default().with_header(TIMESTAMP, "1").with_header(SIGNATURE, "abc"), Some("no-signature")),
        ] {
            assert_eq!(refusal(&request).as_deref(), expected, "{request:?}");
        }
    }

    #[test]
    fn a_short_secret_is_an_error() {
        let error = from_config::<SignedRequest>(r#"{"key": "short"}"#).err().unwrap();
        assert!(error.to_string().contains("`key`: a secret of at least 16 bytes"), "{error}");
    }
}
