//! Admits callers with a valid JSON Web Token of an identity provider.
//!
//! A background task fetches the provider's key set and publishes each key under its ID, so that a call reads one key and no
//! call waits for the provider. A token that cannot be valid is `unauthorized`; before the first key set arrives, no token can
//! be judged, so callers are `unavailable` and retry.

mod key;
mod token;

use serde::Deserialize;
use yardarm_plugin::http::{self, HttpRequest};
use yardarm_plugin::{
    Background, Decision, Denial, DenialClass, Plugin, PluginError, Published, Request, RequestAuth, Result, clock,
    metrics, shared,
};

use crate::key::{Jwk, KeySet};
use crate::token::{Fault, Requirements, Token};

/// Seconds after which a caller that came before the first key set should retry.
const RETRY_AFTER: u32 = 5;

/// The configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where the key set is.
    jwks_url: String,
    /// The header with the token, with or without `Bearer`.
    #[serde(default = "usual_header")]
    header: String,
    /// The issuer of tokens, exactly.
    issuer: String,
    /// A name that must be among the audience of a token.
    audience: String,
    /// Seconds by which clocks may differ.
    #[serde(default = "usual_leeway")]
    leeway_s: u32,
}

/// The plugin.
struct JwtAuth {
    jwks_url: String,
    header: String,
    requirements: Requirements,
}

impl Plugin for JwtAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let Config { jwks_url, header, issuer, audience, leeway_s } = config;
        Ok(Self { jwks_url, header, requirements: Requirements { issuer, audience, leeway_s } })
    }
}

impl RequestAuth for JwtAuth {
    fn authenticate(&self, request: &dyn Request) -> Result<Decision> {
        if shared::version() == 0 {
            let denial = Denial::from(DenialClass::Unavailable).because("there is no key set yet");
            return Ok(Decision::deny(denial.retry_after(RETRY_AFTER)));
        }
        Ok(match self.subject(request.header(&self.header).as_deref()) {
            Ok(subject) => Decision::allow(subject),
            Err(fault) => {
                metrics::count("refused_total", 1, &[("reason", fault.name())]);
                Decision::deny(Denial::from(DenialClass::Unauthorized).because(fault.name()))
            }
        })
    }
}

impl JwtAuth {
    /// Returns the subject of a valid token.
    fn subject(&self, header: Option<&str>) -> Result<String, Fault> {
        let text = header.ok_or(Fault::NoToken)?.trim();
        let token = Token::parse(text.strip_prefix("Bearer ").unwrap_or(text).trim_start())?;
        let key = shared::get(token.key_id()?).ok_or(Fault::UnknownKey)?;
        let key = serde_json::from_slice::<Jwk>(&key).ok().and_then(|jwk| jwk.key()).ok_or(Fault::UnknownKey)?;
        // The signature last: it takes longer than everything else.
        let subject = self.requirements.check(token.claims()?, clock::unix_ms() / 1_000)?;
        token.verify(&key)?;
        Ok(subject)
    }
}

impl Background for JwtAuth {
    fn refresh(&self) -> Result<Option<Published>> {
        let response = http::send(&HttpRequest::get(&self.jwks_url).with_header("accept", "application/json"))?;
        if response.status != 200 {
            return Err(PluginError::temporary(format_args!("the key set has status {}", response.status)));
        }
        let set: KeySet = serde_json::from_slice(&response.body).map_err(PluginError::temporary)?;
        let keys = set.usable();
        // Keys that worked are worth more than none.
        if keys.is_empty() {
            return Err(PluginError::temporary("the key set has no key for RS256 or ES256"));
        }
        Ok(Some(keys.into_iter().map(|(id, jwk)| (id, jwk.into_bytes())).collect()))
    }
}

fn usual_header() -> String {
    "x-access-token".to_owned()
}

fn usual_leeway() -> u32 {
    60
}

yardarm_plugin::export!(
    JwtAuth: request_auth, background;
    manifest = r#"{"grants": [
        {"grant": "clock", "why": "to know whether a token has expired"},
        {"grant": "header:*", "why": "the header with the token"},
        {"grant": "http-out:*", "why": "to fetch the key set"}
    ]}"#,
);

#[cfg(test)]
mod tests;
