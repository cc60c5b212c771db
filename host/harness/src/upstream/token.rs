//! Tokens of upstream, whose claims name the environment of the key that was exchanged.

use std::time::Duration;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::{Map, Value};
use yardarm_core::Secret;
use yardarm_harness_eval::lenient_json;

use super::client::HttpClients;
use super::request::{RequestError, json, post_json};

/// Time limit of an exchange.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);

/// A token of upstream, and its claims.
pub(crate) struct UpstreamToken {
    pub(crate) text: Secret,
    pub(crate) claims: UpstreamClaims,
}

/// The claims of a token of upstream.
#[derive(Debug)]
pub(crate) struct UpstreamClaims(Map<String, Value>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    auth_token: String,
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl UpstreamToken {
    /// Requests a token; `body` contains the key.
    pub(crate) async fn request(http: &HttpClients, url: String, body: &Value) -> Result<Self, RequestError> {
        let answer: Answer = json(post_json(http, url, body).timeout(TOKEN_TIMEOUT)).await?;
        let claims =
            UpstreamClaims::read(&answer.auth_token).map_err(|problem| RequestError::Malformed(problem.to_owned()))?;
        Ok(Self { text: answer.auth_token.into(), claims })
    }
}

impl UpstreamClaims {
    /// Reads the claims of a token. The signature is not checked, because only Harness has the key.
    pub(crate) fn read(token: &str) -> Result<Self, &'static str> {
        let payload = token.split('.').nth(1).ok_or("the token has no claims")?;
        let json = LENIENT.decode(payload).map_err(|_| "the claims of the token are no base64")?;
        lenient_json::from_slice(&json).map(Self).map_err(|_| "the claims of the token are no JSON")
    }

    /// Returns a claim; empty if it is missing or no text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Returns a claim that must not be empty; `problem` is the error if it is.
    pub(crate) fn required(&self, name: &str, problem: &'static str) -> Result<String, &'static str> {
        Some(self.text(name)).filter(|it| !it.is_empty()).ok_or(problem)
    }

    /// Returns the `cluster` parameter of queries. Old installations do not send the claim; it is `1` there.
    pub(crate) fn cluster(&self, name: &str) -> String {
        Some(self.text(name)).filter(|it| !it.is_empty()).unwrap_or_else(|| "1".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{URL_SAFE as PADDED, URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_read_with_and_without_padding() {
        // F002, F003
        let claims = json!({"environment": "id-1", "environmentIdentifier": "prød", "number": 7}).to_string();
        for payload in
            [URL_SAFE_NO_PAD.encode(&claims), PADDED.encode(&claims), URL_SAFE_NO_PAD.encode(format!("{claims} "))]
        {
            let claims = UpstreamClaims::read(&format!("head.{payload}.signature")).unwrap();
            assert_eq!(
                (claims.text("environment"), claims.text("environmentIdentifier")),
                ("id-1".into(), "prød".into())
            );
            assert_eq!((claims.text("number"), claims.text("nothing")), (String::new(), String::new()));
            assert_eq!(claims.cluster("clusterIdentifier"), "1", "F015");
            assert!(UpstreamClaims::read(&format!("head.{payload}")).is_ok(), "two parts are enough");
        }
    }

    #[test]
    fn texts_without_claims_are_no_tokens() {
        let encoded = |json: &str| format!("a.{}.c", URL_SAFE_NO_PAD.encode(json));
        for token in ["", "abc", "a.!.c", &encoded("[]"), &encoded("7"), &encoded("{")] {
            assert!(UpstreamClaims::read(token).is_err(), "{token}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(token in ".*") {
            let _ = UpstreamClaims::read(&token);
        }

        #[test]
        fn every_claim_that_is_a_text_is_read(name in "[a-z_A-Z]{1,20}", value in ".{0,40}") {
            let payload = URL_SAFE_NO_PAD.encode(json!({ name.as_str(): value }).to_string());
            prop_assert_eq!(UpstreamClaims::read(&format!("a.{payload}.c")).unwrap().text(&name), value);
        }
    }
}
