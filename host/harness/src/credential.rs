//! What SDKs present: an API key, of which only the hash is ever kept, and the token it is exchanged for.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use yardarm_core::Secret;
use yardarm_core::time::unix_ms;

/// SHA-256 of an API key in hexadecimal digits, which is all that Harness tells us of most keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct KeyHash(Arc<str>);

/// Makes and reads the tokens that SDKs are handed.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<Keys>);

struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

/// What a token says (section 4.3 of the compatibility page).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// ID of the environment.
    pub(crate) environment: String,
    /// What SDKs put into their queries; always `1`.
    #[serde(rename = "clusterIdentifier")]
    cluster: String,
    /// Reference to the key that was exchanged.
    #[serde(rename = "apiKey")]
    key: String,
    iat: u64,
    nbf: u64,
    #[serde(rename = "environmentIdentifier", default, skip_serializing_if = "Option::is_none")]
    environment_identifier: Option<String>,
    #[serde(rename = "accountID", default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
}

/// What SDKs are told of an environment, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) environment: &'a str,
    pub(crate) environment_identifier: &'a str,
    pub(crate) account: &'a str,
}

const REFERENCE: &str = "auth-key-";
/// How far clocks may disagree, in seconds.
const LEEWAY: u64 = 60;

impl KeyHash {
    /// The hash of a key.
    pub(crate) fn of(key: &str) -> Self {
        Self(hex::encode(Sha256::digest(key.as_bytes())).into())
    }

    /// A hash as Harness lists it; nothing for what is none.
    pub(crate) fn listed(text: &str) -> Option<Self> {
        let is_hash = text.len() == 64 && text.bytes().all(|it| it.is_ascii_hexdigit());
        is_hash.then(|| Self(text.to_ascii_lowercase().into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tokens {
    pub(crate) fn new(secret: &Secret) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        // Ours have no end; whoever shares the secret may give some to theirs.
        validation.required_spec_claims.clear();
        Self(Arc::new(Keys {
            encoding: EncodingKey::from_secret(secret.expose().as_bytes()),
            decoding: DecodingKey::from_secret(secret.expose().as_bytes()),
            validation,
        }))
    }

    /// A token for somebody who presented a known key.
    pub(crate) fn issue(&self, key: &KeyHash, subject: Subject<'_>) -> String {
        let now = unix_ms() / 1000;
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let claims = Claims {
            environment: subject.environment.to_owned(),
            cluster: "1".to_owned(),
            key: format!("{REFERENCE}{}", key.as_str()),
            iat: now,
            // Clocks of SDKs may be behind.
            nbf: now.saturating_sub(LEEWAY),
            environment_identifier: known(subject.environment_identifier),
            account: known(subject.account),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.0.encoding)
            .expect("a signature over text cannot fail")
    }

    /// What a token says, if it is one of ours and its time has come and is not over.
    pub(crate) fn read(&self, token: &str) -> Option<Claims> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.0.decoding, &self.0.validation).ok()?.claims;
        // The library does not look at this one.
        (claims.iat <= unix_ms() / 1000 + LEEWAY).then_some(claims)
    }
}

impl Claims {
    /// The key that was exchanged for the token.
    pub(crate) fn key(&self) -> Option<KeyHash> {
        KeyHash::listed(self.key.strip_prefix(REFERENCE)?)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(***)")
    }
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(text: &str) {
    let tokens = Tokens::new(&"a secret that is long enough".into());
    assert!(tokens.read(text).is_none(), "nobody knows the secret");
    let _ = KeyHash::listed(text);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SUBJECT: Subject<'_> = Subject { environment: "env-1", environment_identifier: "prod", account: "" };

    fn tokens() -> Tokens {
        Tokens::new(&"a secret".into())
    }

    fn signed(claims: &Value, secret: &str, algorithm: Algorithm) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[test]
    fn hashes_are_those_of_section_3_3() {
        let hash = "d4f79b313f8106f5af108ad96ff516222dbfd5a0ab52f4308e4b1ad1d740de60";
        assert_eq!(KeyHash::of("apikey1").as_str(), hash);
        assert_eq!(KeyHash::listed(&hash.to_uppercase()), Some(KeyHash::of("apikey1")));
        for text in ["", "xyz", &hash[1..]] {
            assert_eq!(KeyHash::listed(text), None);
        }
    }

    #[test]
    fn tokens_say_what_sdks_need_and_nothing_empty() {
        // F045
        let key = KeyHash::of("k");
        let token = tokens().issue(&key, SUBJECT);
        let claims = tokens().read(&token).unwrap();
        assert_eq!((claims.environment.as_str(), claims.key()), ("env-1", Some(key.clone())));
        let text = serde_json::to_value(&claims).unwrap();
        assert_eq!(text["clusterIdentifier"], "1");
        assert_eq!(text["environmentIdentifier"], "prod");
        assert!(text.get("accountID").is_none(), "left out, not empty");
        assert!(text["iat"].is_u64() && text["nbf"].is_u64());
        assert!(!token.contains('k') || !text.to_string().contains("\"k\""), "never the key itself");
    }

    #[test]
    fn only_tokens_of_ours_whose_time_has_come_count() {
        // F046, F054
        let now = unix_ms() / 1000;
        let claims = |nbf: u64, exp: Option<u64>| {
            let mut claims =
                json!({"environment": "e", "clusterIdentifier": "1", "apiKey": "x", "iat": now, "nbf": nbf});
            if let Some(exp) = exp {
                claims["exp"] = json!(exp);
            }
            claims
        };
        let good = signed(&claims(now, None), "a secret", Algorithm::HS256);
        let (head, rest) = good.split_once('.').unwrap();
        let mut future = claims(now, None);
        future["iat"] = json!(now + 100);
        let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{rest}");
        for (row, token, is_read) in [
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
        ] {
            assert_eq!(tokens().read(&token).is_some(), is_read, "{row}");
        }
    }
}
