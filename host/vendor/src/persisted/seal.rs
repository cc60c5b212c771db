//! Values that disclose nothing without the secret they were sealed with.
//!
//! The key is derived from a secret that the reader has anyway (HKDF with SHA-256, a fixed label per kind of content);
//! the content is encrypted and authenticated (ChaCha20-Poly1305) with a fresh nonce for each value. The secret must be
//! a generated one: it does not protect a password that can be guessed.

use std::sync::Arc;

use rand::Rng;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, Salt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use yardarm_core::secret::Secret;

/// Seals and opens one kind of content. It has no `Debug`, which would show the key. Cheap to clone.
#[derive(Clone)]
pub struct Seal {
    key: Arc<LessSafeKey>,
    label: &'static str,
}

/// Sealed content, as it is stored.
#[derive(Serialize, Deserialize)]
pub struct Sealed {
    nonce: [u8; NONCE_LEN],
    content: Vec<u8>,
}

/// Sealed bytes, as they are stored.
#[derive(Serialize, Deserialize)]
pub struct SealedBytes {
    nonce: [u8; NONCE_LEN],
    #[serde(with = "serde_bytes")]
    content: Vec<u8>,
}

/// The content cannot be opened or sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The secret or the kind of content differs, or the content was altered.
    #[error("the content was sealed with another key, or was altered")]
    OtherKey,
    /// The content is not in the format of this version.
    #[error("the content is not in the format of this version")]
    Content,
}

impl Seal {
    /// Creates the seal for content of the kind `label`, with a key that is derived from `secret`.
    ///
    /// # Errors
    /// When the library cannot derive a key, which does not happen in practice.
    pub fn new(secret: &Secret, label: &'static str) -> Result<Self, SealError> {
        let derived = Salt::new(HKDF_SHA256, &[]).extract(secret.expose().as_bytes());
        let key = derived.expand(&[label.as_bytes()], &CHACHA20_POLY1305).map(UnboundKey::from)?;
        Ok(Self { key: Arc::new(LessSafeKey::new(key)), label })
    }

    /// Seals a value.
    ///
    /// # Errors
    /// When the value cannot be encoded.
    pub fn seal<T: Serialize>(&self, value: &T) -> Result<Sealed, SealError> {
        let SealedBytes { nonce, content } =
            self.seal_bytes(serde_json::to_vec(value).map_err(|_| SealError::Content)?)?;
        Ok(Sealed { nonce, content })
    }

    /// Seals bytes.
    ///
    /// # Errors
    /// When there are more than the cipher can seal, which is many gigabytes.
    pub fn seal_bytes(&self, mut content: Vec<u8>) -> Result<SealedBytes, SealError> {
        let nonce: [u8; NONCE_LEN] = rand::rng().random();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(unique, Aad::from(self.label.as_bytes()), &mut content)?;
        Ok(SealedBytes { nonce, content })
    }

    /// Opens a sealed value.
    ///
    /// # Errors
    /// When it was sealed with another secret or as another kind of content, or was altered.
    pub fn open<T: DeserializeOwned>(&self, sealed: Sealed) -> Result<T, SealError> {
        let Sealed { nonce, content } = sealed;
        let opened = self.open_bytes(SealedBytes { nonce, content })?;
        serde_json::from_slice(&opened).map_err(|_| SealError::Content)
    }

    /// Opens sealed bytes.
    ///
    /// # Errors
    /// When they were sealed with another secret or as another kind of content, or were altered.
    pub fn open_bytes(&self, sealed: SealedBytes) -> Result<Vec<u8>, SealError> {
        let SealedBytes { nonce, mut content } = sealed;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = self.key.open_in_place(nonce, Aad::from(self.label.as_bytes()), &mut content)?.len();
        content.truncate(length);
        Ok(content)
    }
}

impl From<Unspecified> for SealError {
    fn from(_: Unspecified) -> Self {
        Self::OtherKey
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(secret: &str, label: &'static str) -> Seal {
        Seal::new(&Secret::new(secret), label).unwrap()
    }

    #[test]
    fn only_the_same_secret_and_label_open_it() {
        let own = seal("rel-0001", "list of things");
        let sealed = || own.seal(&"sdk-canary").unwrap();
        assert_eq!(own.open::<String>(sealed()).unwrap(), "sdk-canary");
        assert!(!sealed().content.windows(6).any(|it| it == b"canary"));
        for other in [seal("rel-0002", "list of things"), seal("rel-0001", "another list")] {
            assert!(matches!(other.open::<String>(sealed()), Err(SealError::OtherKey)));
        }
        assert!(matches!(own.open::<u32>(sealed()), Err(SealError::Content)));
    }

    #[test]
    fn sealing_a_value_twice_gives_different_bytes() {
        let own = seal("rel-0001", "list of things");
        let (first, second) = (own.seal(&"x").unwrap(), own.seal(&"x").unwrap());
        assert!(first.nonce != second.nonce && first.content != second.content);
    }

    #[test]
    fn a_changed_byte_is_detected() {
        let own = seal("rel-0001", "list of things");
        let mut changed = own.seal(&"value").unwrap();
        changed.content[0] ^= 1;
        assert!(matches!(own.open::<String>(changed), Err(SealError::OtherKey)));
    }
}
