//! Keyed fingerprints: stable within this process, so that plugins can use them as cache keys, and useless outside of
//! it.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Bytes of a fingerprint; enough that no two credentials collide.
const LENGTH: usize = 16;

/// Computes fingerprints with a random key that exists only in this process.
pub(crate) struct Fingerprints(Hmac<Sha256>);

impl Fingerprints {
    /// Generates a key.
    pub(crate) fn new() -> Self {
        let key: [u8; 32] = rand::random();
        Self(Hmac::new_from_slice(&key).expect("a key of any length will do"))
    }

    /// Returns the fingerprint of a text in hexadecimal digits.
    pub(crate) fn of(&self, text: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(text.as_bytes());
        hex::encode(&mac.finalize().into_bytes()[..LENGTH])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_stable_here_and_different_elsewhere() {
        let here = Fingerprints::new();
        assert_eq!(here.of("sdk-1"), here.of("sdk-1"));
        assert_ne!(here.of("sdk-1"), here.of("sdk-2"));
        assert_ne!(here.of("sdk-1"), Fingerprints::new().of("sdk-1"));
        assert_eq!(here.of("sdk-1").len(), 2 * LENGTH);
    }
}
