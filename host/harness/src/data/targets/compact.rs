//! Targets in few bytes: each is one allocation of text, which is parsed again when it is needed.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use yardarm_harness_eval::model::Target;

/// A map of targets by identifier that can evict the least recently used one.
#[derive(Default)]
pub(super) struct CompactTargets {
    /// By a hash of the identifier. Targets with the same hash replace each other; callers cannot cause that.
    index: HashMap<u64, u32>,
    hasher: RandomState,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The slot used last, and the one used least recently.
    newest: Option<u32>,
    oldest: Option<u32>,
    text_bytes: usize,
}

struct Slot {
    /// The identifier, and after it the target as JSON without it.
    text: Arc<[u8]>,
    identifier_length: u32,
    newer: Option<u32>,
    older: Option<u32>,
}

/// A packed target.
pub(super) struct Packed {
    text: Arc<[u8]>,
    identifier_length: u32,
}

impl Packed {
    /// Packs a target; `None` if it is too long.
    pub(super) fn new(target: &Target) -> Option<Self> {
        let mut text = target.identifier.clone().into_bytes();
        let identifier_length = u32::try_from(text.len()).ok()?;
        let rest = Target { identifier: String::new(), ..target.clone() };
        serde_json::to_writer(&mut text, &rest).ok()?;
        Some(Self { text: text.into(), identifier_length })
    }

    /// Returns the target.
    pub(super) fn unpack(&self) -> Option<Target> {
        let (identifier, rest) = self.text.split_at_checked(self.identifier_length as usize)?;
        let rest: Target = serde_json::from_slice(rest).ok()?;
        Some(Target { identifier: String::from_utf8_lossy(identifier).into_owned(), ..rest })
    }

    /// Returns the bytes of memory that it takes.
    pub(super) fn size(&self) -> usize {
        allocated(self.text.len())
    }

    fn identifier(&self) -> &[u8] {
        self.text.get(..self.identifier_length as usize).unwrap_or_default()
    }
}

/// Returns the bytes of memory of a shared text: two counters, the text, the allocator's header, rounded up to 16.
fn allocated(length: usize) -> usize {
    (length + 2 * size_of::<usize>() + size_of::<usize>()).next_multiple_of(16).max(32)
}

impl CompactTargets {
    /// Returns the bytes of memory that everything takes, unused capacity included.
    pub(super) fn held_bytes(&self) -> usize {
        // A hash table has a control byte per slot, and an eighth of its slots stays free.
        let table = self.index.capacity() * (size_of::<(u64, u32)>() + 1) * 8 / 7;
        self.text_bytes + table + self.slots.capacity() * size_of::<Slot>() + self.free.capacity() * size_of::<u32>()
    }

    /// Returns the target of an identifier, which becomes the most recently used one.
    pub(super) fn find(&mut self, identifier: &str) -> Option<Packed> {
        let number = *self.index.get(&self.hasher.hash_one(identifier.as_bytes()))?;
        let slot = self.slots.get(number as usize)?;
        let packed = Packed { text: Arc::clone(&slot.text), identifier_length: slot.identifier_length };
        if packed.identifier() != identifier.as_bytes() {
            return None;
        }
        if self.newest != Some(number) {
            self.unlink(number);
            self.link(number);
        }
        Some(packed)
    }

    /// Adds a target, or replaces the one of its identifier.
    pub(super) fn insert(&mut self, packed: Packed) {
        let hash = self.hasher.hash_one(packed.identifier());
        self.remove_hash(hash);
        self.text_bytes += packed.size();
        let slot = Slot { text: packed.text, identifier_length: packed.identifier_length, newer: None, older: None };
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                let Ok(number) = u32::try_from(self.slots.len()) else { return };
                self.slots.push(slot);
                number
            }
        };
        self.index.insert(hash, number);
        self.link(number);
    }

    /// Removes the target of an identifier.
    pub(super) fn remove(&mut self, identifier: &str) {
        self.remove_hash(self.hasher.hash_one(identifier.as_bytes()));
    }

    /// Removes the least recently used target; returns whether there was one.
    pub(super) fn evict(&mut self) -> bool {
        let Some(slot) = self.oldest.and_then(|it| self.slots.get(it as usize)) else { return false };
        let packed = Packed { text: Arc::clone(&slot.text), identifier_length: slot.identifier_length };
        self.remove_hash(self.hasher.hash_one(packed.identifier()));
        true
    }

    /// Returns all targets, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = Packed> {
        self.index.values().filter_map(|number| {
            let slot = self.slots.get(*number as usize)?;
            Some(Packed { text: Arc::clone(&slot.text), identifier_length: slot.identifier_length })
        })
    }

    fn remove_hash(&mut self, hash: u64) {
        let Some(number) = self.index.remove(&hash) else { return };
        self.unlink(number);
        let slot = &mut self.slots[number as usize];
        self.text_bytes -= allocated(slot.text.len());
        slot.text = Arc::default();
        self.free.push(number);
    }

    fn link(&mut self, number: u32) {
        let before = self.newest.replace(number);
        let slot = &mut self.slots[number as usize];
        (slot.newer, slot.older) = (None, before);
        match before {
            Some(before) => self.slots[before as usize].newer = Some(number),
            None => self.oldest = Some(number),
        }
    }

    fn unlink(&mut self, number: u32) {
        let slot = &self.slots[number as usize];
        let (newer, older) = (slot.newer, slot.older);
        match newer {
            Some(newer) => self.slots[newer as usize].older = older,
            None => self.newest = older,
        }
        match older {
            Some(older) => self.slots[older as usize].newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn packed(identifier: &str, name: &str) -> Packed {
        Packed::new(&Target { name: name.into(), ..Target::unknown(identifier) }).unwrap()
    }

    #[test]
    fn targets_come_back_as_they_were() {
        let attributes = serde_json::json!({"a": [1, {"b": null}], "identifier": "x", "ü": 1.5});
        let attributes = attributes.as_object().unwrap().clone().into_iter().collect();
        let target = Target { identifier: "ü{\"".into(), name: "N".into(), anonymous: Some(true), attributes };
        assert_eq!(Packed::new(&target).unwrap().unpack(), Some(target));
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map_that_evicts_the_least_recently_used(
            steps in proptest::collection::vec((0_u8..4, "[a-f]", "[x-z]"), 0..200),
        ) {
            let mut targets = CompactTargets::default();
            // The least recently used one comes first.
            let mut model: VecDeque<(String, String)> = VecDeque::new();
            for (step, identifier, name) in steps {
                let position = model.iter().position(|it| it.0 == identifier);
                match step {
                    0 => {
                        targets.insert(packed(&identifier, &name));
                        position.map(|it| model.remove(it));
                        model.push_back((identifier, name));
                    }
                    1 => {
                        let found = targets.find(&identifier).and_then(|it| it.unpack()).map(|it| it.name);
                        let known = position.and_then(|it| model.remove(it));
                        prop_assert_eq!(&found, &known.as_ref().map(|it| it.1.clone()));
                        model.extend(known);
                    }
                    2 => {
                        targets.remove(&identifier);
                        position.map(|it| model.remove(it));
                    }
                    _ => prop_assert_eq!(targets.evict(), model.pop_front().is_some()),
                }
                let mut all: Vec<_> = targets.all().filter_map(|it| it.unpack()).map(|it| it.identifier).collect();
                all.sort();
                let mut expected: Vec<_> = model.iter().map(|it| it.0.clone()).collect();
                expected.sort();
                prop_assert_eq!(all, expected);
            }
            while targets.evict() {}
            prop_assert_eq!(targets.text_bytes, 0);
        }
    }
}
