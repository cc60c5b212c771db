//! Encryption of cached items: AES-256-GCM without associated data, the nonce in front.

use bytes::Bytes;
use rand::Rng;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use sha2::{Digest, Sha256};
use yardarm_core::Secret;

/// Encrypts and decrypts items. It has no `Debug`, which would show the key.
pub(in crate::sources) struct ListCipher(LessSafeKey);

/// An item was encrypted with another key, or was altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was encrypted with another key, or altered")]
pub(super) struct Undecipherable;

impl ListCipher {
    /// Creates the cipher of a text, whose SHA-256 is the key.
    ///
    /// # Errors
    /// When the library refuses the key, which does not happen for keys of this length.
    pub(in crate::sources) fn new(secret: &Secret) -> Result<Self, Unspecified> {
        let key = UnboundKey::new(&AES_256_GCM, &Sha256::digest(secret.expose().trim().as_bytes()))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Encrypts an item, each time with another nonce. `None` for many gigabytes.
    pub(super) fn encrypt(&self, plain: &[u8]) -> Option<Bytes> {
        let nonce: [u8; NONCE_LEN] = rand::rng().random();
        let mut content = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(unique, Aad::empty(), &mut content).ok()?;
        Some([&nonce[..], &content].concat().into())
    }

    /// Decrypts an item.
    pub(super) fn decrypt(&self, item: &[u8]) -> Result<Vec<u8>, Undecipherable> {
        let (nonce, content) = item.split_first_chunk::<NONCE_LEN>().ok_or(Undecipherable)?;
        let mut content = content.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::empty(), &mut content).map_err(|_| Undecipherable)?.len();
        content.truncate(opened);
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(secret: &str) -> ListCipher {
        ListCipher::new(&Secret::new(secret)).unwrap()
    }

    #[test]
    fn v042_items_of_other_programs_are_decrypted() {
        // Made by Python's `cryptography` 48: AESGCM(sha256(b"rel-abc").digest()).encrypt(bytes(range(12)), b"{}", None)
        let item = hex::decode("000102030405060708090a0b6054afbcaabd6a77de1740e01d8aebc53723").unwrap();
        assert_eq!(cipher(" rel-abc\n").decrypt(&item).unwrap(), b"{}");
    }

    #[test]
    fn v041_other_keys_and_altered_items_are_refused() {
        let own = cipher("rel-abc");
        let item = own.encrypt(b"sdk-canary").unwrap();
        assert_eq!(own.decrypt(&item).unwrap(), b"sdk-canary");
        assert_ne!(own.encrypt(b"sdk-canary"), own.encrypt(b"sdk-canary"));
        assert!(!item.windows(6).any(|it| it == b"canary"));
        assert_eq!(cipher("rel-abd").decrypt(&item), Err(Undecipherable));
        for index in 0..item.len() {
            let mut altered = item.to_vec();
            altered[index] ^= 1;
            assert_eq!(own.decrypt(&altered), Err(Undecipherable), "byte {index}");
            assert_eq!(own.decrypt(&item[..index]), Err(Undecipherable), "{index} bytes");
        }
    }
}
