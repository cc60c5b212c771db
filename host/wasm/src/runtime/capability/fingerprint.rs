//! Keyed fingerprints, which plugins can use as keys of caches and counters, and which are useless elsewhere. Without a
//! configured key they are those of this process.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use yardarm_core::Secret;

/// Bytes of a fingerprint; enough that no two credentials collide.
const LENGTH: usize = 16;

/// Computes fingerprints.
pub(crate) struct Fingerprints(Hmac<Sha256>);

impl Fingerprints {
    /// Uses a random key that exists only in this process.
    pub(crate) fn new() -> Self {
        let key: [u8; 32] = rand::random();
        Self(Hmac::new_from_slice(&key).expect("a key of any length will do"))
    }

    /// Uses a key that other gateways have too.
    pub(crate) fn shared(key: &Secret) -> Self {
        Self(Hmac::new_from_slice(key.expose().as_bytes()).expect("a key of any length will do"))
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
        let with = |key: &str| Fingerprints::shared(&Secret::new(key)).of("sdk-1");
        assert_eq!(with("a shared key"), with("a shared key"));
        assert_ne!(with("a shared key"), with("another key"));
    }
}
