//! Tokens in the vendor's format. Clients cannot check their signatures, so the signatures are arbitrary.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::FakeHarness;

/// Issued tokens, and the properties of the next one.
#[derive(Default)]
pub(super) struct Tokens {
    issued: HashMap<String, Holder>,
    count: usize,
    /// Overrides of claims, by API key or proxy key.
    claims: HashMap<String, Value>,
    /// Texts in place of a token, by API key or proxy key.
    texts: HashMap<String, String>,
    is_padded: bool,
}

/// The holder of a token.
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
        // No two signatures are the same, and none can be guessed from another.
        let signature = engine.encode(sha256(format!("{header}.{payload}.{}", self.count).as_bytes()));
        let token = format!("{header}.{payload}.{signature}");
        self.issued.insert(token.clone(), holder);
        token
    }

    /// Returns the holder of the token in an `Authorization` header.
    pub(super) fn holder(&self, authorization: Option<&str>) -> Option<&Holder> {
        let (scheme, token) = authorization?.split_once(' ')?;
        self.issued.get(token).filter(|_| scheme.eq_ignore_ascii_case("Bearer"))
    }
}

impl FakeHarness {
    /// Overrides claims in tokens for an API key or proxy key. `null` removes one.
    pub fn claims(&self, key: &str, claims: &Value) {
        self.lock().tokens.claims.insert(key.to_owned(), claims.clone());
    }

    /// Issues a text in place of a token.
    pub fn issues(&self, key: &str, text: &str) {
        self.lock().tokens.texts.insert(key.to_owned(), text.to_owned());
    }

    /// Sets whether the parts of tokens are padded with `=`.
    pub fn pads_tokens(&self, is_padded: bool) {
        self.lock().tokens.is_padded = is_padded;
    }

    /// Invalidates all tokens issued so far.
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
