//! The items that a chain of payload plugins read besides the changed ones.

use std::collections::HashSet;

use parking_lot::Mutex;
use yardarm_core::hooks::ItemHead;

/// Maximum number of items that are recorded. A chain that reads more depends on everything.
const MAX_READS: usize = 10_000;
/// Maximum number of kinds of which a list is recorded; vendors have two.
const MAX_LISTS: usize = 16;

/// Items that were read by name, whether they exist or not, since the last pass over everything.
#[derive(Default)]
pub(super) struct Reads(Mutex<Recorded>);

#[derive(Default)]
struct Recorded {
    /// Kinds and keys.
    items: HashSet<(Box<str>, Box<str>)>,
    /// Kinds whose items were listed.
    lists: HashSet<Box<str>>,
    is_full: bool,
}

impl Reads {
    /// Records that an item was read.
    pub(super) fn add(&self, kind: &str, key: &str) {
        let mut recorded = self.0.lock();
        if recorded.items.len() >= MAX_READS {
            recorded.is_full = true;
        } else {
            recorded.items.insert((kind.into(), key.into()));
        }
    }

    /// Records that the items of a kind were listed.
    pub(super) fn add_list(&self, kind: &str) {
        let mut recorded = self.0.lock();
        if recorded.lists.len() >= MAX_LISTS {
            recorded.is_full = true;
        } else {
            recorded.lists.insert(kind.into());
        }
    }

    /// Whether the items of a kind were listed.
    pub(super) fn lists(&self, kind: &str) -> bool {
        self.0.lock().lists.contains(kind)
    }

    /// Whether an item was read, or may have been.
    pub(super) fn contains(&self, head: &ItemHead) -> bool {
        let recorded = self.0.lock();
        recorded.is_full || recorded.items.contains(&(head.kind.into(), Box::from(&*head.key)))
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        *self.0.lock() = Recorded::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_reads_too_much_depends_on_everything() {
        let head = |key: &str| ItemHead { kind: "flag", key: key.into(), version: 1, is_deleted: false };
        let reads = Reads::default();
        for number in 0..MAX_READS {
            reads.add("flag", &number.to_string());
        }
        assert!(reads.contains(&head("0")) && !reads.contains(&head("other")));
        reads.add("flag", "one more");
        assert!(reads.contains(&head("other")));
        reads.clear();
        assert!(!reads.contains(&head("0")));
    }
}
