//! The tokens that SDKs are handed for their keys (section 4.3 of the compatibility page), and what they are signed with.
//!
//! With `harness.auth_secret` that signs all of them. Without, each environment has a secret of its own, derived from the
//! configured key that leads to it, so that all gateways with this key accept each other's tokens.

use std::fmt;
use std::sync::Arc;

use hkdf::Hkdf;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use yardarm_core::Secret;
use yardarm_core::time::unix_ms;

use super::key_hash::KeyHash;

/// Makes and reads tokens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<Shared>);

struct Shared {
    /// Signs the tokens of all environments; `None` where each has a secret of its own.
    common: Option<SigningKey>,
    /// What tokens were signed with before: they are accepted, and no more are made.
    earlier: Option<SigningKey>,
    /// Whether tokens are accepted that do not name the key they were exchanged for.
    accepts_keyless: bool,
    validation: Validation,
}

/// What tokens are signed with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SigningKey(Arc<Keys>);

struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// ID of the environment.
    pub(crate) environment: String,
    /// What SDKs put into their queries; always `1`. Not read.
    #[serde(rename = "clusterIdentifier", skip_deserializing)]
    cluster: String,
    /// Reference to the key that was exchanged. Version 1 of the vendor's relay leaves it out.
    #[serde(rename = "apiKey", default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// In Unix seconds. Other programs with the same secret may add a fraction.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_seconds")]
    iat: Option<u64>,
    /// Checked by the library, so that it is not read here.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
    #[serde(rename = "environmentIdentifier", skip_deserializing, skip_serializing_if = "Option::is_none")]
    environment_identifier: Option<String>,
    #[serde(rename = "accountID", skip_deserializing, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
}

/// The key that a token was exchanged for, as far as the token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenKey {
    Named(KeyHash),
    /// A token of version 1 of the vendor's relay: any key of its environment.
    Any,
}

/// What tokens say about an environment, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) environment: &'a str,
    pub(crate) environment_identifier: &'a str,
    pub(crate) account: &'a str,
}

const REFERENCE: &str = "auth-key-";
/// How far clocks may disagree, in seconds.
const LEEWAY: u64 = 60;
/// Labels of the derivation. Another label is another secret, so these never change.
const SALT: &[u8] = b"yardarm";
const LABEL: &[u8] = b"harness token secret 1";

fn whole_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    // A negative time saturates to 0, which is as long ago.
    Ok(Option::<f64>::deserialize(deserializer)?.map(|it| it as u64))
}

impl SigningKey {
    /// Signs with a configured secret.
    pub(crate) fn new(secret: &Secret) -> Self {
        Self::from_bytes(secret.expose().as_bytes())
    }

    /// Signs with what is derived from a configured key (HKDF-SHA256).
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
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        // The vendor's relay neither sets an audience nor looks at one.
        validation.validate_aud = false;
        // Ours do not expire; other programs with the same secret may set an expiry.
        validation.required_spec_claims.clear();
        Self(Arc::new(Shared { common, earlier, accepts_keyless, validation }))
    }

    /// A token for a caller who presented a known key of an environment with this signing key; `None` if it cannot be
    /// signed.
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

    /// What a token says, and of which key, if it is one of ours and its time has come and is not over. `own` gives the
    /// signing key of an environment by its ID.
    pub(crate) fn read(&self, token: &str, own: impl Fn(&str) -> Option<SigningKey>) -> Option<(Claims, TokenKey)> {
        let own = if self.0.common.is_none() { own(&self.claimed(token)?) } else { None };
        let candidates = self.0.common.iter().chain(&own).chain(&self.0.earlier);
        let claims = candidates
            .into_iter()
            .find_map(|it| jsonwebtoken::decode::<Claims>(token, &it.0.decoding, &self.0.validation).ok())?;
        let claims = claims.claims;
        // The library does not look at this one.
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

    /// The environment that a token names, before anything is known of its signature; `None` if that cannot matter, because
    /// one secret signs the tokens of all environments.
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
    assert!(Tokens::new(Some(signing()), None, true).read(text, |_| None).is_none(), "nobody knows the secret");
    assert!(
        Tokens::new(None, Some(signing()), true).read(text, |_| Some(signing())).is_none(),
        "nobody knows the secret"
    );
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SUBJECT: Subject<'_> = Subject { environment: "env-1", environment_identifier: "prod", account: "" };

    fn tokens() -> Tokens {
        Tokens::new(Some(SigningKey::new(&"a secret".into())), None, false)
    }

    fn signed(claims: &Value, secret: &str, algorithm: Algorithm) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    fn is_read(tokens: &Tokens, token: &str) -> bool {
        tokens.read(token, |_| None).is_some()
    }

    #[test]
    fn tokens_say_what_sdks_need_and_nothing_empty() {
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
    fn only_tokens_of_ours_whose_time_has_come_count() {
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
            ("just over", signed(&claims(now, Some(now - 50)), "a secret", Algorithm::HS256), true),
            ("another secret", signed(&claims(now, None), "another", Algorithm::HS256), false),
            ("another algorithm", signed(&claims(now, None), "a secret", Algorithm::HS512), false),
            ("no algorithm", none, false),
            ("over", signed(&claims(now, Some(now - 100)), "a secret", Algorithm::HS256), false),
            ("not yet", signed(&claims(now + 100, None), "a secret", Algorithm::HS256), false),
            ("no signature", format!("{head}.{}.", rest.split('.').next().unwrap()), false),
            ("made in the future", signed(&future, "a secret", Algorithm::HS256), false),
            ("no token", "hello".to_owned(), false),
            ("nothing", String::new(), false),
            ("a fraction of a second", with("iat", json!(1.7e9 + 0.5)), true),
            ("made before time began", with("iat", json!(-5)), true),
            ("made in the far future", with("iat", json!(1e300)), false),
            ("made never", with("iat", json!("x")), false),
            ("an audience", with("aud", json!("x")), true),
            ("no cluster", with("clusterIdentifier", Value::Null), true),
            ("another type of what is not read", with("accountID", json!(7)), true),
        ] {
            assert_eq!(is_read(&tokens(), &token), expected, "{row}");
        }
    }

    #[test]
    fn tokens_of_version_1_count_where_they_are_to_and_under_the_same_secret_only() {
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
    fn environments_without_a_common_secret_have_one_of_their_own() {
        let signing = |key: &str| SigningKey::derived(&key.into());
        let own = |id: &str| (id == "env-1").then(|| signing("key 1"));
        let earlier = SigningKey::new(&"made up before".into());
        let tokens = Tokens::new(None, Some(earlier.clone()), false);
        let key = KeyHash::of("k");
        let token = tokens.issue(Some(&signing("key 1")), &key, SUBJECT).unwrap();
        assert!(tokens.read(&token, own).is_some());
        assert!(Tokens::new(None, None, false).read(&token, own).is_some(), "by another gateway");
        let foreign = tokens.issue(Some(&signing("key 2")), &key, SUBJECT).unwrap();
        assert!(tokens.read(&foreign, own).is_none(), "the key of one environment signs nothing for another");
        let old = tokens.issue(Some(&earlier), &key, SUBJECT).unwrap();
        assert!(tokens.read(&old, own).is_some(), "one that was made before");
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
