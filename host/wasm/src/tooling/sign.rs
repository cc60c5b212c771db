//! `yardarm plugin sign` and `verify`: signatures of components.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;

use super::component_file::ComponentFile;
use crate::staging::signature::{self, PublicKey, SignatureMode, SignaturePolicy, TrustedKey};
use crate::vocabulary::LoadError;

/// Characters of a line of PEM.
const PEM_LINE: usize = 64;

/// A private key that signs plugins. It has no printable form.
pub struct SigningKey(Ed25519KeyPair);

/// Why a private key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is not PEM of PKCS #8, as `openssl genpkey -algorithm ed25519` writes it.
    #[error("it is not a private key in PEM (PKCS #8)")]
    NotPem,
    /// The key is for another algorithm, or damaged.
    #[error("it is not a key for Ed25519")]
    NotEd25519,
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    NoRandomness,
}

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignatureReport {
    /// Name that the plugin declares.
    pub name: String,
    /// Version that the plugin declares.
    pub version: String,
    /// Digest of the file, with its signature.
    pub sha256: String,
    /// The public key.
    pub key: String,
}

impl SigningKey {
    /// Creates a key; returns it with its text in PEM.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn generate() -> Result<(Self, String), KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::NoRandomness)?;
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| KeyError::NotEd25519)?;
        let encoded = BASE64.encode(document.as_ref());
        let mut pem = "-----BEGIN PRIVATE KEY-----\n".to_owned();
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
            pem.extend([line, "\n"]);
            rest = after;
        }
        pem += "-----END PRIVATE KEY-----\n";
        Ok((Self(pair), pem))
    }

    /// Reads a key in PEM.
    ///
    /// # Errors
    /// If the text is not such a key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::NotPem)?;
        // OpenSSL leaves the public key out.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        pair.map(Self).map_err(|_| KeyError::NotEd25519)
    }

    /// Returns the public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::of(&self.0)
    }
}

/// Returns the component in a file with a signature in place of the one that it has.
///
/// # Errors
/// If the file is not a component of a plugin.
pub fn sign_file(path: &Path, key: &SigningKey) -> Result<Vec<u8>, LoadError> {
    let file = ComponentFile::read(path)?;
    signature::sign(&file.bytes, &key.0, &file.name, &file.declared.version)
}

/// Checks the signature of a file, as a gateway does that trusts these keys.
///
/// # Errors
/// If the file is not a component of a plugin, or has no signature of these keys.
pub fn verify_file(path: &Path, keys: Vec<TrustedKey>) -> Result<SignatureReport, LoadError> {
    let file = ComponentFile::read(path)?;
    let policy = SignaturePolicy { mode: SignatureMode::Require, keys };
    let (name, version) = (file.name.to_string(), file.declared.version);
    let key = policy.check(&file.bytes, &name, &version)?.to_string();
    Ok(SignatureReport { name, version, sha256: hex::encode(file.sha256), key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_read_from_its_text() {
        let (key, pem) = SigningKey::generate().unwrap();
        assert!(pem.lines().all(|line| line.len() <= PEM_LINE), "{pem}");
        assert_eq!(SigningKey::from_pem(pem.as_bytes()).unwrap().public(), key.public());
    }

    #[test]
    fn a_key_of_openssl_is_read() {
        // `openssl genpkey -algorithm ed25519`, and the key of `openssl pkey -pubout` without its prefix.
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
            -----END PRIVATE KEY-----\n";
        let public = SigningKey::from_pem(pem.as_bytes()).unwrap().public();
        assert_eq!(public.to_string(), "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    }

    #[test]
    fn other_texts_are_not_keys() {
        assert!(matches!(SigningKey::from_pem(b"secret"), Err(KeyError::NotPem)));
        let pem = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(SigningKey::from_pem(pem), Err(KeyError::NotEd25519)));
    }
}
