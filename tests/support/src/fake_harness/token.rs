//! Tokens as the vendor makes them. Nobody outside can check their signatures, so any signature does.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::FakeHarness;

/// What was issued, and how the next one looks.
#[derive(Default)]
pub(super) struct Tokens {
    issued: HashMap<String, Holder>,
    count: usize,
    /// By API key or proxy key: what differs from the usual claims.
    claims: HashMap<String, Value>,
    /// By API key or proxy key: a text in place of a token.
    texts: HashMap<String, String>,
    is_padded: bool,
}

/// Whom a token was issued to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    /// An API key of this environment.
    Environment(String),
    /// This proxy key.
    Proxy(String),
}

impl Tokens {
    pub(super) fn issue(&mut self, key: &str, holder: Holder, mut claims: Value) -> String {
        if let Some(text) = self.texts.get(key) {
            self.issued.insert(text.clone(), holder);
            return text.clone();
        }
        for (name, value) in self.claims.get(key).and_then(Value::as_object).into_iter().flatten() {
            claims[name] = value.clone();
        }
        if let Some(claims) = claims.as_object_mut() {
            claims.retain(|_, value| !value.is_null());
        }
        self.count += 1;
        let engine = if self.is_padded { URL_SAFE } else { URL_SAFE_NO_PAD };
        let header = engine.encode(json!({"alg": "HS256", "typ": "JWT"}).to_string());
        let payload = engine.encode(claims.to_string());
        // No two are the same, and none can be guessed from another.
        let signature = engine.encode(sha256(format!("{header}.{payload}.{}", self.count).as_bytes()));
        let token = format!("{header}.{payload}.{signature}");
        self.issued.insert(token.clone(), holder);
        token
    }

    /// Whom the token of an `Authorization` was issued to.
    pub(super) fn holder(&self, authorization: Option<&str>) -> Option<&Holder> {
        let (scheme, token) = authorization?.split_once(' ')?;
        self.issued.get(token).filter(|_| scheme.eq_ignore_ascii_case("Bearer"))
    }
}

impl FakeHarness {
    /// Changes claims in tokens for an API key or proxy key. `null` leaves one out.
    pub fn claims(&self, key: &str, claims: &Value) {
        self.lock().tokens.claims.insert(key.to_owned(), claims.clone());
    }

    /// Gives out a text in place of a token.
    pub fn issues(&self, key: &str, text: &str) {
        self.lock().tokens.texts.insert(key.to_owned(), text.to_owned());
    }

    /// Whether the parts of tokens end in `=` where their length asks for it.
    pub fn pads_tokens(&self, is_padded: bool) {
        self.lock().tokens.is_padded = is_padded;
    }

    /// No token that was issued up to now is accepted any longer.
    pub fn forgets_tokens(&self) {
        self.lock().tokens.issued.clear();
    }
}

pub(super) fn environment_claims(id: &str, identifier: &str) -> Value {
    json!({
        "environment": id, "environmentIdentifier": identifier,
        "project": "00000000-0000-4000-8000-0000000000aa", "projectIdentifier": "shop",
        "organization": "00000000-0000-4000-8000-0000000000bb", "organizationIdentifier": "default",
        "accountID": "account1", "clusterIdentifier": "2", "key_type": "Server",
    })
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
