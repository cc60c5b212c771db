//! The tokens that SDKs get for their keys, and the secrets that sign them (F045 to F047, F054).
//!
//! `harness.auth_secret` signs all tokens. Unless it is set, each environment has a secret of its own, derived from the
//! configured key that leads to it, so that all gateways with this key accept each other's tokens.

use std::fmt;
use std::sync::Arc;

use hkdf::Hkdf;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use yardarm_core::Secret;
use yardarm_core::time::unix_ms;

use super::hs256;
use super::key_hash::KeyHash;

/// Issues and reads tokens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<Shared>);

struct Shared {
    /// Signs the tokens of all environments; `None` if each has a secret of its own.
    common: Option<SigningKey>,
    /// Secret of an earlier version. Its tokens are accepted, and no new ones are issued.
    earlier: Option<SigningKey>,
    /// Whether tokens are accepted that do not name the key that was exchanged.
    accepts_keyless: bool,
    validation: Validation,
}

/// A secret that signs tokens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SigningKey(Arc<Keys>);

struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// ID of the environment.
    pub(crate) environment: String,
    /// The `cluster` parameter of SDKs' queries; always `1`. Not read.
    #[serde(rename = "clusterIdentifier", skip_deserializing)]
    cluster: String,
    /// Reference to the key that was exchanged. Version 1 of the vendor's relay leaves it out.
    #[serde(rename = "apiKey", default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// In Unix seconds. Other programs that sign with the same secret may add a fraction.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_seconds")]
    iat: Option<u64>,
    /// The library checks it, so it is not read here.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
    #[serde(rename = "environmentIdentifier", skip_deserializing, skip_serializing_if = "Option::is_none")]
    environment_identifier: Option<String>,
    #[serde(rename = "accountID", skip_deserializing, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
}

/// The key that was exchanged for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenKey {
    Named(KeyHash),
    /// The token names none, as in version 1 of the vendor's relay: it stands for any key of its environment.
    Any,
}

/// The environment that a token is issued for. Unknown identifiers are empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) environment: &'a str,
    pub(crate) environment_identifier: &'a str,
    pub(crate) account: &'a str,
}

const REFERENCE: &str = "auth-key-";
/// How far clocks may disagree, in seconds.
const LEEWAY: u64 = 60;
/// Inputs of the derivation. Another input gives another secret, so these never change.
const SALT: &[u8] = b"yardarm";
const LABEL: &[u8] = b"harness token secret 1";

fn whole_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    // A negative time saturates to 0, which has passed as well.
    Ok(Option::<f64>::deserialize(deserializer)?.map(|it| it as u64))
}

impl SigningKey {
    /// Returns the key of a configured secret.
    pub(crate) fn new(secret: &Secret) -> Self {
        Self::from_bytes(secret.expose().as_bytes())
    }

    /// Returns the key that is derived from a configured API key or proxy key (HKDF-SHA256).
    pub(crate) fn derived(key: &Secret) -> Self {
        let mut bytes = [0; 32];
        Hkdf::<Sha256>::new(Some(SALT), key.expose().as_bytes())
            .expand(LABEL, &mut bytes)
            .expect("32 bytes are a possible length");
        Self::from_bytes(&bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        Self(Arc::new(Keys { encoding: EncodingKey::from_secret(bytes), decoding: DecodingKey::from_secret(bytes) }))
    }
}

impl Tokens {
    pub(crate) fn new(common: Option<SigningKey>, earlier: Option<SigningKey>, accepts_keyless: bool) -> Self {
        hs256::install();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        // The vendor's relay neither sets nor checks an audience.
        validation.validate_aud = false;
        // Our tokens do not expire; other programs that sign with the same secret may set an expiry.
        validation.required_spec_claims.clear();
        Self(Arc::new(Shared { common, earlier, accepts_keyless, validation }))
    }

    /// Issues a token for a caller who presented a known key. `own` is the signing key of the environment. Returns `None` if
    /// there is no key to sign with.
    pub(crate) fn issue(&self, own: Option<&SigningKey>, key: &KeyHash, subject: Subject<'_>) -> Option<String> {
        let now = unix_ms() / 1000;
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let claims = Claims {
            environment: subject.environment.to_owned(),
            cluster: "1".to_owned(),
            key: Some(format!("{REFERENCE}{}", key.as_str())),
            iat: Some(now),
            // Clocks of SDKs may be behind.
            nbf: Some(now.saturating_sub(LEEWAY)),
            environment_identifier: known(subject.environment_identifier),
            account: known(subject.account),
        };
        let signing = self.0.common.as_ref().or(own)?;
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &signing.0.encoding).ok()
    }

    /// Returns the claims and the key of a token if its signature is ours and it is valid at this time. `own` returns the
    /// signing key of an environment by its ID.
    pub(crate) fn read(&self, token: &str, own: impl Fn(&str) -> Option<SigningKey>) -> Option<(Claims, TokenKey)> {
        let own = if self.0.common.is_none() { own(&self.claimed(token)?) } else { None };
        let candidates = self.0.common.iter().chain(&own).chain(&self.0.earlier);
        let claims = candidates
            .into_iter()
            .find_map(|it| jsonwebtoken::decode::<Claims>(token, &it.0.decoding, &self.0.validation).ok())?;
        let claims = claims.claims;
        // The library does not check `iat`.
        if claims.iat.is_some_and(|it| it > unix_ms() / 1000 + LEEWAY) {
            return None;
        }
        let key = match &claims.key {
            Some(key) => TokenKey::Named(KeyHash::listed(key.strip_prefix(REFERENCE)?)?),
            None if self.0.accepts_keyless => TokenKey::Any,
            None => return None,
        };
        Some((claims, key))
    }

    /// Returns the environment that a token names, without a check of its signature; `None` if one secret signs the tokens of
    /// all environments, so that the name does not matter.
    pub(crate) fn claimed_environment(&self, token: &str) -> Option<String> {
        if self.0.common.is_some() { None } else { self.claimed(token) }
    }

    fn claimed(&self, token: &str) -> Option<String> {
        let header = jsonwebtoken::decode_header(token).ok().filter(|it| it.alg == Algorithm::HS256);
        header?;
        let claims = jsonwebtoken::dangerous::insecure_decode::<Claims>(token).ok()?;
        Some(claims.claims.environment)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(***)")
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(text: &str) {
    let signing = || SigningKey::new(&"a secret that is long enough".into());
    assert!(Tokens::new(Some(signing()), None, true).read(text, |_| None).is_none(), "the secret is unknown");
    assert!(
        Tokens::new(None, Some(signing()), true).read(text, |_| Some(signing())).is_none(),
        "the secret is unknown"
    );
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hmac::{Hmac, Mac};

    const SUBJECT: Subject<'_> = Subject { environment: "env-1", environment_identifier: "prod", account: "" };

    fn tokens() -> Tokens {
        Tokens::new(Some(SigningKey::new(&"a secret".into())), None, false)
    }

    fn signed(claims: &Value, secret: &str, algorithm: Algorithm) -> String {
        hs256::install();
        jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    fn signed_by_hs512(claims: &Value, secret: &str) -> String {
        let text =
            [r#"{"typ":"JWT","alg":"HS512"}"#.to_owned(), claims.to_string()].map(|it| URL_SAFE_NO_PAD.encode(it));
        let text = text.join(".");
        let mac = Hmac::<sha2::Sha512>::new_from_slice(secret.as_bytes()).unwrap().chain_update(&text);
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn is_read(tokens: &Tokens, token: &str) -> bool {
        tokens.read(token, |_| None).is_some()
    }

    #[test]
    fn tokens_have_the_claims_that_sdks_need_and_no_empty_ones() {
        // F045
        let key = KeyHash::of("k");
        let token = tokens().issue(None, &key, SUBJECT).unwrap();
        let (claims, named) = tokens().read(&token, |_| None).unwrap();
        assert_eq!((claims.environment.as_str(), named), ("env-1", TokenKey::Named(key.clone())));
        let text = jsonwebtoken::dangerous::insecure_decode::<Value>(&token).unwrap().claims;
        assert_eq!(text["clusterIdentifier"], "1");
        assert_eq!(text["environmentIdentifier"], "prod");
        assert!(text.get("accountID").is_none(), "left out, not empty");
        assert!(text["iat"].is_u64() && text["nbf"].is_u64());
        assert_eq!(text["apiKey"], format!("auth-key-{}", key.as_str()), "never the key itself");
    }

    #[test]
    fn only_our_own_tokens_are_accepted_and_only_while_they_are_valid() {
        // F046, F054
        let now = unix_ms() / 1000;
        let key = format!("{REFERENCE}{}", KeyHash::of("k").as_str());
        let claims = |nbf: u64, exp: Option<u64>| {
            let mut claims =
                json!({"environment": "e", "clusterIdentifier": "1", "apiKey": key, "iat": now, "nbf": nbf});
            if let Some(exp) = exp {
                claims["exp"] = json!(exp);
            }
            claims
        };
        let good = signed(&claims(now, None), "a secret", Algorithm::HS256);
        let (head, rest) = good.split_once('.').unwrap();
        let mut future = claims(now, None);
        future["iat"] = json!(now + 100);
        let with = |name: &str, value: Value| {
            let mut claims = claims(now, None);
            claims[name] = value;
            signed(&claims, "a secret", Algorithm::HS256)
        };
        let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{rest}");
        for (row, token, expected) in [
            ("good", good.clone(), true),
            ("a clock that is a little off", signed(&claims(now + 50, None), "a secret", Algorithm::HS256), true),
            ("expired a moment ago", signed(&claims(now, Some(now - 50)), "a secret", Algorithm::HS256), true),
            ("another secret", signed(&claims(now, None), "another", Algorithm::HS256), false),
            ("another algorithm", signed_by_hs512(&claims(now, None), "a secret"), false),
            ("no algorithm", none, false),
            ("expired", signed(&claims(now, Some(now - 100)), "a secret", Algorithm::HS256), false),
            ("not valid yet", signed(&claims(now + 100, None), "a secret", Algorithm::HS256), false),
            ("no signature", format!("{head}.{}.", rest.split('.').next().unwrap()), false),
            ("issued in the future", signed(&future, "a secret", Algorithm::HS256), false),
            ("no token", "hello".to_owned(), false),
            ("nothing", String::new(), false),
            ("a fraction of a second", with("iat", json!(1.7e9 + 0.5)), true),
            ("issued before 1970", with("iat", json!(-5)), true),
            ("issued in the far future", with("iat", json!(1e300)), false),
            ("no time of issue", with("iat", json!("x")), false),
            ("an audience", with("aud", json!("x")), true),
            ("no cluster", with("clusterIdentifier", Value::Null), true),
            ("another type of a claim that is not read", with("accountID", json!(7)), true),
        ] {
            assert_eq!(is_read(&tokens(), &token), expected, "{row}");
        }
    }

    #[test]
    fn tokens_of_version_1_are_accepted_if_enabled_and_signed_with_the_same_secret() {
        let now = unix_ms() / 1000;
        let version_1 = json!({"environment": "e", "clusterIdentifier": "1", "iat": now, "nbf": now});
        let token = signed(&version_1, "a secret", Algorithm::HS256);
        assert!(!is_read(&tokens(), &token));
        let compatible = Tokens::new(Some(SigningKey::new(&"a secret".into())), None, true);
        assert_eq!(compatible.read(&token, |_| None).map(|it| it.1), Some(TokenKey::Any));
        for (row, token) in [
            ("another secret", signed(&version_1, "another", Algorithm::HS256)),
            ("no environment", signed(&json!({"iat": now}), "a secret", Algorithm::HS256)),
            ("a strange key", signed(&json!({"environment": "e", "apiKey": "x"}), "a secret", Algorithm::HS256)),
        ] {
            assert!(!is_read(&compatible, &token), "{row}");
        }
        assert!(is_read(&compatible, &signed(&json!({"environment": "e"}), "a secret", Algorithm::HS256)));
    }

    #[test]
    fn without_a_common_secret_each_environment_has_its_own() {
        let signing = |key: &str| SigningKey::derived(&key.into());
        let own = |id: &str| (id == "env-1").then(|| signing("key 1"));
        let earlier = SigningKey::new(&"an earlier secret".into());
        let tokens = Tokens::new(None, Some(earlier.clone()), false);
        let key = KeyHash::of("k");
        let token = tokens.issue(Some(&signing("key 1")), &key, SUBJECT).unwrap();
        assert!(tokens.read(&token, own).is_some());
        assert!(Tokens::new(None, None, false).read(&token, own).is_some(), "by another gateway");
        let foreign = tokens.issue(Some(&signing("key 2")), &key, SUBJECT).unwrap();
        assert!(tokens.read(&foreign, own).is_none(), "the key of one environment signs nothing for another");
        let old = tokens.issue(Some(&earlier), &key, SUBJECT).unwrap();
        assert!(tokens.read(&old, own).is_some(), "a token of an earlier version");
        assert_eq!(tokens.claimed_environment(&token).as_deref(), Some("env-1"));
        assert_eq!(tokens.claimed_environment("a.b.c"), None);
        assert!(tokens.issue(None, &key, SUBJECT).is_none());
    }

    #[test]
    fn the_derivation_never_changes() {
        // Computed with Python: RFC 5869 with SHA-256, salt `yardarm`, input `key`, info `harness token secret 1`.
        let bytes = hex::decode("9bc455c2552bcf8e9dd6d86a1a80d9fbf5e8c1322eea4718599d3c3e58e523f6").unwrap();
        let token =
            Tokens::new(None, None, false).issue(Some(&SigningKey::derived(&"key".into())), &KeyHash::of("k"), SUBJECT);
        let decoding = DecodingKey::from_secret(&bytes);
        assert!(jsonwebtoken::decode::<Claims>(&token.unwrap(), &decoding, &tokens().0.validation).is_ok());
    }
}
