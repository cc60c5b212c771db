//! A snapshot file that discloses nothing without the secret it was sealed with.
//!
//! The key is derived from a secret that the reader has anyway (HKDF with SHA-256, a fixed label per kind of content);
//! the content is encrypted and authenticated (ChaCha20-Poly1305) with a fresh nonce for each write. The secret must be
//! a generated one: it does not protect a password that can be guessed.

use std::sync::Arc;

use rand::Rng;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, Salt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use yardarm_core::secret::Secret;

use crate::persisted::snapshot_file::{SnapshotError, SnapshotFile};

/// A snapshot file with the key of its content. It has no `Debug`, which would show the key. Cheap to clone.
#[derive(Clone)]
pub struct SealedFile {
    file: SnapshotFile,
    key: Arc<LessSafeKey>,
    label: &'static str,
}

/// Sealed content, as stored in a file.
#[derive(Serialize, Deserialize)]
pub struct Sealed {
    nonce: [u8; NONCE_LEN],
    content: Vec<u8>,
}

/// The content cannot be opened or sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file cannot be read, or is damaged.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// The secret or the kind of content differs, or the content was altered.
    #[error("the content was sealed with another key, or was altered")]
    OtherKey,
    /// The content is not in the format of this version.
    #[error("the content is not in the format of this version")]
    Content,
}

impl SealedFile {
    /// Uses `file` for content of the kind `label`, with a key that is derived from `secret`.
    ///
    /// # Errors
    /// When the library cannot derive a key, which does not happen in practice.
    pub fn new(file: SnapshotFile, secret: &Secret, label: &'static str) -> Result<Self, SealError> {
        let derived = Salt::new(HKDF_SHA256, &[]).extract(secret.expose().as_bytes());
        let key = derived.expand(&[label.as_bytes()], &CHACHA20_POLY1305).map(UnboundKey::from)?;
        Ok(Self { file, key: Arc::new(LessSafeKey::new(key)), label })
    }

    /// Returns the file.
    #[must_use]
    pub fn file(&self) -> &SnapshotFile {
        &self.file
    }

    /// Seals a value, to be written to the file.
    ///
    /// # Errors
    /// When the value cannot be encoded.
    pub fn seal<T: Serialize>(&self, value: &T) -> Result<Sealed, SealError> {
        let mut content = serde_json::to_vec(value).map_err(|_| SealError::Content)?;
        let nonce: [u8; NONCE_LEN] = rand::rng().random();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(unique, Aad::from(self.label.as_bytes()), &mut content)?;
        Ok(Sealed { nonce, content })
    }

    /// Reads and opens the value; returns `None` when there is no file. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or was sealed with another secret.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, SealError> {
        let Some(Sealed { nonce, mut content }) = self.file.read()? else { return Ok(None) };
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(self.label.as_bytes()), &mut content)?;
        serde_json::from_slice(opened).map(Some).map_err(|_| SealError::Content)
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

    fn sealed(file: &SnapshotFile, secret: &str, label: &'static str) -> SealedFile {
        SealedFile::new(file.clone(), &Secret::new(secret), label).unwrap()
    }

    #[test]
    fn only_the_same_secret_and_label_open_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = SnapshotFile::new(folder.path(), "list");
        let own = sealed(&file, "rel-0001", "list of things");
        assert!(own.read::<String>().unwrap().is_none());
        file.write(&own.seal(&"sdk-canary").unwrap()).unwrap();
        assert_eq!(own.read::<String>().unwrap().as_deref(), Some("sdk-canary"));
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(!bytes.windows(6).any(|it| it == b"canary"));
        for other in [sealed(&file, "rel-0002", "list of things"), sealed(&file, "rel-0001", "another list")] {
            assert!(matches!(other.read::<String>(), Err(SealError::OtherKey)));
        }
        assert!(matches!(own.read::<u32>(), Err(SealError::Content)));
    }

    #[test]
    fn sealing_a_value_twice_gives_different_bytes() {
        let file = SnapshotFile::new(std::path::Path::new("/nowhere"), "list");
        let own = sealed(&file, "rel-0001", "list of things");
        let (first, second) = (own.seal(&"x").unwrap(), own.seal(&"x").unwrap());
        assert!(first.nonce != second.nonce && first.content != second.content);
    }

    #[test]
    fn a_changed_byte_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let file = SnapshotFile::new(folder.path(), "list");
        let own = sealed(&file, "rel-0001", "list of things");
        let mut changed = own.seal(&"value").unwrap();
        changed.content[0] ^= 1;
        file.write(&changed).unwrap();
        assert!(matches!(own.read::<String>(), Err(SealError::OtherKey)));
    }
}
