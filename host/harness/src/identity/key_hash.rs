//! API keys, of which only hashes are stored.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use yardarm_core::Secret;

/// SHA-256 of an API key in hexadecimal digits, which is all that Harness sends of most keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct KeyHash(Arc<str>);

/// Hashes of keys, as they were read from a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListedKeys {
    hashes: BTreeSet<KeyHash>,
    is_complete: bool,
}

impl KeyHash {
    /// Returns the hash of a key.
    pub(crate) fn of(key: &str) -> Self {
        Self(hex::encode(Sha256::digest(key.as_bytes())).into())
    }

    /// Reads a hash as Harness lists it; `None` if it is not 64 hexadecimal digits.
    pub(crate) fn listed(text: &str) -> Option<Self> {
        let is_hash = text.len() == 64 && text.bytes().all(|it| it.is_ascii_hexdigit());
        is_hash.then(|| Self(text.to_ascii_lowercase().into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl ListedKeys {
    /// Returns all hashes that could be read.
    pub(crate) fn hashes(&self) -> &BTreeSet<KeyHash> {
        &self.hashes
    }

    /// Returns whether every entry could be read. If not, the list may contain keys that are missing here.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Returns the same hashes, of a list that may contain others.
    pub(crate) fn incomplete(self) -> Self {
        Self { is_complete: false, ..self }
    }
}

/// Collects the texts of entries; `None` stands for an entry that cannot be read.
impl FromIterator<Option<String>> for ListedKeys {
    fn from_iter<I: IntoIterator<Item = Option<String>>>(entries: I) -> Self {
        let mut listed = Self { hashes: BTreeSet::new(), is_complete: true };
        for entry in entries {
            match entry.and_then(|it| KeyHash::listed(&it)) {
                Some(hash) => drop(listed.hashes.insert(hash)),
                None => listed.is_complete = false,
            }
        }
        listed
    }
}

/// Returns a key with all but its first four characters masked (F112).
pub(crate) fn masked(key: &Secret) -> String {
    key.expose().chars().enumerate().map(|(index, it)| if index < 4 { it } else { '*' }).collect()
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(text: &str) {
    let _ = KeyHash::listed(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_sha_256_in_hexadecimal_digits() {
        let hash = "d4f79b313f8106f5af108ad96ff516222dbfd5a0ab52f4308e4b1ad1d740de60";
        assert_eq!(KeyHash::of("apikey1").as_str(), hash);
        assert_eq!(KeyHash::listed(&hash.to_uppercase()), Some(KeyHash::of("apikey1")));
        for text in ["", "xyz", &hash[1..]] {
            assert_eq!(KeyHash::listed(text), None);
        }
    }
}
