//! Grants that a guest needed and does not have.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::clean;

/// Maximum number of grants that are recorded per generation of a plugin.
const MOST: usize = 32;
/// Maximum length of a grant in bytes; the name of a header may be of any length.
const LONGEST: usize = 128;

/// Grants that were missing when the guest read something, each recorded once.
#[derive(Debug, Default)]
pub(crate) struct MissingGrants(Mutex<BTreeSet<String>>);

impl MissingGrants {
    /// Records a grant; returns whether it is a new one.
    pub(crate) fn record(&self, grant: &str) -> bool {
        let mut grants = self.0.lock();
        if grants.contains(grant) || grants.len() >= MOST || grant.len() > LONGEST {
            return false;
        }
        grants.insert(clean(grant))
    }

    /// Returns all recorded grants, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_grant_is_recorded_once_and_their_number_is_bounded() {
        let missing = MissingGrants::default();
        assert!(missing.record("path") && !missing.record("path"));
        for number in 0..100 {
            missing.record(&format!("header:x-{number}"));
        }
        assert!(!missing.record(&"x".repeat(200)));
        assert_eq!(missing.names().len(), MOST);
    }
}
