//! Signatures of components: who has published a version, whatever way it came.
//!
//! A signature is the last section of a component, so that it cannot be separated from it, and is covered by a digest that
//! pins the file. It is Ed25519 over the SHA-256 of everything before that section, and over name and version.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::sections;
use crate::vocabulary::{LoadError, Pattern, clean};

/// Name of the section.
const SECTION: &str = "yardarm:signature";
/// Begins every signed text, so that a signature for another purpose is none of a plugin.
const PURPOSE: &str = "yardarm plugin signature 1";
/// What public keys begin with.
const ALGORITHM: &str = "ed25519:";

/// What a signature is worth to a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SignatureMode {
    /// Signatures are not checked.
    Off,
    /// A component without a valid signature is reported, if any key is trusted.
    #[default]
    Warn,
    /// A component without a valid signature is refused.
    Require,
}

/// Which signatures are trusted.
#[derive(Debug, Clone, Default)]
pub struct SignaturePolicy {
    /// What happens without one.
    pub mode: SignatureMode,
    /// Keys that are trusted.
    pub keys: Vec<TrustedKey>,
}

/// An Ed25519 public key; its text is `ed25519:` and 32 bytes in Base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; ED25519_PUBLIC_KEY_LEN]);

/// A key and the names of plugins that it may sign; its text is the key, and patterns after spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// Patterns for names; all names if empty.
    pub names: Vec<Pattern>,
}

/// The content of the section.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    key: String,
    name: String,
    version: String,
    signature: String,
}

/// A signature that is valid; whether its key is trusted is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedBy {
    pub(crate) key: PublicKey,
    pub(crate) name: String,
    pub(crate) version: String,
}

impl SignaturePolicy {
    /// Checks the signature of a component that declares this name and version; returns the trusted key that signed it.
    ///
    /// # Errors
    /// `L11`, if there is no valid signature of a key that is trusted for this name. What that means depends on the mode.
    pub(crate) fn check(&self, component: &[u8], name: &str, version: &str) -> Result<PublicKey, LoadError> {
        let signed = verify(component)?.ok_or(LoadError::SignatureMissing)?;
        let invalid = |text: String| Err(LoadError::SignatureInvalid { text });
        if (&*signed.name, &*signed.version) != (name, version) {
            let (other, of) = (clean(&signed.name), clean(&signed.version));
            return invalid(format!("it is that of `{other}` {of}, and the component is `{name}` {version}"));
        }
        let Some(trusted) = self.keys.iter().find(|it| it.key == signed.key) else {
            return invalid(format!("its key {} is not in `plugins.trusted_keys`", signed.key));
        };
        if !trusted.names.is_empty() && !trusted.names.iter().any(|pattern| pattern.matches(name)) {
            return invalid(format!("its key {} is not trusted for the name `{name}`", signed.key));
        }
        Ok(signed.key)
    }

    /// Returns whether components are checked at all.
    pub(crate) fn is_active(&self) -> bool {
        match self.mode {
            SignatureMode::Off => false,
            SignatureMode::Warn => !self.keys.is_empty(),
            SignatureMode::Require => true,
        }
    }
}

/// Returns whose signature a component has; `None` if it has none.
///
/// # Errors
/// If the signature is not valid for the component.
pub(crate) fn verify(component: &[u8]) -> Result<Option<SignedBy>, LoadError> {
    let invalid = |text: String| LoadError::SignatureInvalid { text };
    let sections = sections::custom_sections(component, SECTION).map_err(|error| invalid(error.to_string()))?;
    let Some(section) = sections.first() else { return Ok(None) };
    if section.place.end != component.len() {
        return Err(invalid("it is not the last section of the component".to_owned()));
    }
    let signature: Signature = serde_json::from_slice(&component[section.content.clone()])
        .map_err(|error| invalid(clean(&format!("it cannot be read: {error}"))))?;
    let key: PublicKey = signature.key.parse().map_err(invalid)?;
    let bytes = BASE64.decode(&signature.signature).map_err(|_| invalid("it is not Base64".to_owned()))?;
    let text = signed_text(&component[..section.place.start], &signature.name, &signature.version);
    UnparsedPublicKey::new(&ED25519, key.0)
        .verify(text.as_bytes(), &bytes)
        .map_err(|_| invalid("the component was changed after it was signed, or the key is another one".to_owned()))?;
    Ok(Some(SignedBy { key, name: signature.name, version: signature.version }))
}

/// Returns the component with a signature in place of the one that it has.
///
/// # Errors
/// If the component is damaged.
pub(crate) fn sign(component: &[u8], key: &Ed25519KeyPair, name: &str, version: &str) -> Result<Vec<u8>, LoadError> {
    let damaged = |error: wasmparser::BinaryReaderError| LoadError::of_compiler(&error.to_string());
    let mut signed = sections::without(component, SECTION).map_err(damaged)?;
    let signature = Signature {
        key: PublicKey::of(key).to_string(),
        name: name.to_owned(),
        version: version.to_owned(),
        signature: BASE64.encode(key.sign(signed_text(&signed, name, version).as_bytes())),
    };
    let content = serde_json::to_vec(&signature).map_err(|error| LoadError::of_compiler(&error.to_string()))?;
    sections::append(&mut signed, SECTION, &content);
    Ok(signed)
}

fn signed_text(unsigned: &[u8], name: &str, version: &str) -> String {
    format!("{PURPOSE}\n{}\n{name}\n{version}\n", hex::encode(Sha256::digest(unsigned)))
}

impl PublicKey {
    /// Returns the public key of a pair.
    #[must_use]
    pub fn of(pair: &Ed25519KeyPair) -> Self {
        let mut key = [0; ED25519_PUBLIC_KEY_LEN];
        key.copy_from_slice(pair.public_key().as_ref());
        Self(key)
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let encoded = text.strip_prefix(ALGORITHM);
        let bytes = encoded.and_then(|it| BASE64.decode(it).ok()).and_then(|it| it.try_into().ok());
        let text = || format!("`{}` is not a public key, which is `{ALGORITHM}` and 32 bytes in Base64", clean(text));
        bytes.map(Self).ok_or_else(text)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", BASE64.encode(self.0))
    }
}

impl FromStr for TrustedKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let key = words.next().unwrap_or_default().parse()?;
        Ok(Self { key, names: words.map(Pattern::from).collect() })
    }
}

#[cfg(test)]
mod tests;
