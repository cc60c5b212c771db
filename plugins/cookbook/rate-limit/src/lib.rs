//! Limits how often each credential may be used.
//!
//! Requests are counted in windows of fixed length that begin at multiples of it. The counters are stored values of the
//! plugin, which all of its instances share; a credential is known by its fingerprint.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use serde::Deserialize;
use yardarm_plugin::{
    Credential, Decision, Denial, DenialClass, Plugin, Request, RequestAuth, Result, clock, kv, metrics,
};

/// The configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Length of a window.
    window_s: NonZeroU64,
    /// Requests of one credential in a window, by kind of caller. Other kinds are not limited.
    limits: BTreeMap<Sdk, NonZeroU32>,
}

/// A kind of caller.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sdk {
    Server,
    Mobile,
    Client,
}

/// The plugin.
struct RateLimit(Config);

impl Plugin for RateLimit {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }
}

impl RequestAuth for RateLimit {
    fn authenticate(&self, request: &dyn Request) -> Result<Decision> {
        let (sdk, Some(credential)) = (request.sdk(), request.credential()) else {
            return Ok(Decision::allow_unnamed());
        };
        let Some(limit) = self.limit(&sdk) else { return Ok(Decision::allow_unnamed()) };
        let (Credential::Fingerprint(credential) | Credential::Raw(credential)) = credential;

        let length = self.0.window_s.get();
        let now = clock::unix_ms() / 1_000;
        let key = format!("{}/{credential}", now / length);
        if kv::increment(&key, 1, Some(Duration::from_secs(length)))? <= i64::from(limit.get()) {
            return Ok(Decision::allow_unnamed());
        }
        metrics::count("limited_total", 1, &[("sdk", &sdk)]);
        let left = u32::try_from(length - now % length).unwrap_or(u32::MAX);
        Ok(Decision::deny(Denial::from(DenialClass::RateLimited).because("too many requests").retry_after(left)))
    }
}

impl RateLimit {
    fn limit(&self, sdk: &str) -> Option<NonZeroU32> {
        let sdk = match sdk {
            "server" => Sdk::Server,
            "mobile" => Sdk::Mobile,
            _ => Sdk::Client,
        };
        self.0.limits.get(&sdk).copied()
    }
}

yardarm_plugin::export!(
    RateLimit: request_auth;
    manifest = r#"{"grants": [
        {"grant": "clock", "why": "to know the window"},
        {"grant": "kv", "why": "to count"}
    ]}"#,
);

#[cfg(test)]
mod tests {
    use yardarm_plugin::testing::{TestRequest, set_time};
    use yardarm_plugin::{PluginError, from_config};

    use super::*;

    fn plugin() -> RateLimit {
        from_config(r#"{"window_s": 60, "limits": {"server": 2, "client": 1}}"#).unwrap()
    }

    fn request(sdk: &str, credential: &str) -> TestRequest {
        let credential = Credential::Fingerprint(credential.to_owned());
        TestRequest::default().with_sdk(sdk).with_credential(credential)
    }

    #[test]
    fn each_credential_has_its_own_window() {
        let plugin = plugin();
        let retry_after = |at_s: u64, sdk: &str, credential: &str| {
            set_time(at_s * 1_000);
            match plugin.authenticate(&request(sdk, credential)).unwrap() {
                Decision::Deny(denial) => {
                    assert_eq!(denial.class, DenialClass::RateLimited);
                    denial.retry_after
                }
                _ => None,
            }
        };
        for (at_s, sdk, credential, expected) in [
            (600, "server", "a", None),
            (601, "server", "a", None),
            (602, "server", "a", Some(58)),
            (602, "server", "b", None),
            (602, "client", "c", None),
            (659, "client", "c", Some(1)),
            (602, "mobile", "d", None),
            (603, "mobile", "d", None),
            (660, "server", "a", None),
        ] {
            assert_eq!(retry_after(at_s, sdk, credential), expected, "{at_s} {sdk} {credential}");
        }
    }

    #[test]
    fn routes_without_a_credential_are_not_limited() {
        let request = TestRequest::default().with_sdk("server");
        assert_eq!(plugin().authenticate(&request), Ok(Decision::allow_unnamed()));
    }

    #[test]
    fn a_limit_of_nothing_is_an_error() {
        for config in [
            r#"{"window_s": 0, "limits": {}}"#,
            r#"{"window_s": 1, "limits": {"server": 0}}"#,
            r#"{"window_s": 1, "limits": {"browser": 1}}"#,
        ] {
            assert!(matches!(from_config::<RateLimit>(config), Err(PluginError::InvalidInput(_))), "{config}");
        }
    }
}
