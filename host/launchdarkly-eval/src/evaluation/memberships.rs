//! Memberships in Big Segments, read from a store before evaluation, so that evaluation itself needs no store.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// The outcome of a Big Segment lookup. In order of severity: of several, the most severe is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BigSegmentsStatus {
    /// The store answered and is up to date.
    Healthy,
    /// The store answered, but has not been updated for too long.
    Stale,
    /// The store could not be queried.
    StoreError,
    /// There is no store, or the segment has no generation.
    NotConfigured,
}

/// What a Big Segment store contains about the keys of one context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memberships {
    status: BigSegmentsStatus,
    by_key: HashMap<Box<str>, Membership>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Membership {
    status: BigSegmentsStatus,
    /// By segment reference, `<key>.g<generation>`: in or out.
    segments: HashMap<Box<str>, bool>,
}

/// A key of a context, and its hash, which stores use in its place.
#[derive(Debug)]
pub struct HashedKey {
    /// The key.
    pub key: Box<str>,
    /// Its hash; see [`Memberships::key_hash`].
    pub hash: String,
}

impl From<&str> for HashedKey {
    fn from(key: &str) -> Self {
        Self { key: key.into(), hash: Memberships::key_hash(key) }
    }
}

impl BigSegmentsStatus {
    /// Its name in reasons.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Stale => "STALE",
            Self::StoreError => "STORE_ERROR",
            Self::NotConfigured => "NOT_CONFIGURED",
        }
    }
}

impl Memberships {
    /// Without memberships; `status` is the status of keys for which none are inserted.
    #[must_use]
    pub fn new(status: BigSegmentsStatus) -> Self {
        Self { status, by_key: HashMap::new() }
    }

    /// Adds the memberships of a context key: the segments it is in or out of, each as `<segment key>.g<generation>`.
    pub fn insert(
        &mut self,
        key: &str,
        status: BigSegmentsStatus,
        segments: impl IntoIterator<Item = (impl Into<Box<str>>, bool)>,
    ) {
        let segments = segments.into_iter().map(|(reference, included)| (reference.into(), included)).collect();
        self.by_key.insert(key.into(), Membership { status, segments });
    }

    /// The hash that stores use in place of a context key: SHA-256 in base64.
    #[must_use]
    pub fn key_hash(key: &str) -> String {
        BASE64_STANDARD.encode(Sha256::digest(key))
    }

    /// Whether `key` is in or out of the segment, if that is known, and the status of the lookup.
    #[must_use]
    pub fn look_up(&self, key: &str, reference: &str) -> (Option<bool>, BigSegmentsStatus) {
        match self.by_key.get(key) {
            Some(membership) => (membership.segments.get(reference).copied(), membership.status),
            None => (None, self.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hashed_as_in_stores() {
        assert_eq!(Memberships::key_hash("user-key"), "CEXjZY7cHJG/ydFy7q4+YEFwVrG3/pkJwA4FAjrbfx0=");
        assert_eq!(Memberships::key_hash("u"), "C/6TXnDDIcfKOvx1zg0MovmLVCLgCLsxwAxtfx8cCtY=");
    }
}
