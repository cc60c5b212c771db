//! Sets of texts, in which one text of a context is looked up thousands of times per request.

/// A text with its hash, so that a context's key is hashed once and looked up in many sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    hash: u64,
    text: Box<str>,
}

/// An immutable set of texts: one allocation for all characters, one probe for most lookups.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeySet {
    /// All texts, one after the other.
    texts: Box<str>,
    /// End of each text.
    ends: Box<[u32]>,
    /// Open addressing: upper half of the hash and index + 1, or 0 for an empty place. Never full.
    table: Box<[u64]>,
    /// The bits of all texts; a text whose bit is missing is not in the set.
    filter: u64,
}

/// Collects the texts of a [`KeySet`].
#[derive(Debug, Default)]
pub(crate) struct KeySetBuilder {
    texts: String,
    ends: Vec<u32>,
}

impl Text {
    /// Hashes `text`.
    pub(crate) fn new(text: impl Into<Box<str>>) -> Self {
        let text = text.into();
        Self { hash: hash(text.as_bytes()), text }
    }

    /// The bit that the text has in filters.
    pub(crate) fn bit(&self) -> u64 {
        bit(self.hash)
    }

    /// The text itself.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl KeySet {
    /// Whether `text` is in the set.
    pub(crate) fn contains(&self, text: &Text) -> bool {
        self.filter & text.bit() != 0 && self.find(text.hash, &text.text).is_some()
    }

    /// The bits of all texts. If it lacks the bit of a text, the text is not in the set.
    pub(crate) fn filter(&self) -> u64 {
        self.filter
    }

    /// Whether there is nothing in the set.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn find(&self, hash: u64, text: &str) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let mask = self.table.len() - 1;
        let mut place = position(hash) & mask;
        loop {
            let entry = self.table[place];
            if entry == 0 {
                return None;
            }
            let index = low(entry) - 1;
            if entry >> 32 == hash >> 32 && self.text(index) == text {
                return Some(index);
            }
            place = (place + 1) & mask;
        }
    }

    fn text(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.texts[start..self.ends[index] as usize]
    }
}

impl KeySetBuilder {
    /// Adds a text.
    pub(crate) fn push(&mut self, text: &str) {
        // Four gigabytes of keys in one list: nothing that a vendor sends in one message.
        if let Ok(end) = u32::try_from(self.texts.len() + text.len()) {
            self.texts.push_str(text);
            self.ends.push(end);
        }
    }

    /// Builds the set.
    pub(crate) fn finish(self) -> KeySet {
        if self.ends.is_empty() {
            return KeySet::default();
        }
        let places = (self.ends.len() * 4 / 3 + 1).next_power_of_two();
        let mut set = KeySet {
            texts: self.texts.into_boxed_str(),
            ends: self.ends.into_boxed_slice(),
            table: vec![0; places].into_boxed_slice(),
            filter: 0,
        };
        for index in 0..set.ends.len() {
            let hash = hash(set.text(index).as_bytes());
            if set.find(hash, set.text(index)).is_some() {
                continue;
            }
            let mut place = position(hash) & (places - 1);
            while set.table[place] != 0 {
                place = (place + 1) & (places - 1);
            }
            set.table[place] = (hash >> 32 << 32) | (index as u64 + 1);
            set.filter |= bit(hash);
        }
        set
    }
}

impl<'a> FromIterator<&'a str> for KeySet {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let mut builder = KeySetBuilder::default();
        texts.into_iter().for_each(|text| builder.push(text));
        builder.finish()
    }
}

/// One of 64 bits, chosen by the highest bits of a hash.
fn bit(hash: u64) -> u64 {
    1 << (hash >> 58)
}

#[expect(clippy::cast_possible_truncation, reason = "only the low half is wanted")]
fn low(entry: u64) -> usize {
    entry as u32 as usize
}

#[expect(clippy::cast_possible_truncation, reason = "only the low bits choose the place")]
fn position(hash: u64) -> usize {
    hash as usize
}

/// Mixes eight bytes at a time by folded multiplication.
///
/// The seed is fixed: members come from the vendor, and a client that looks up chosen keys can only read.
fn hash(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0x243f_6a88_85a3_08d3;
    let mut state = SEED ^ bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        state = fold(state ^ u64::from_le_bytes(word));
    }
    let rest = chunks.remainder();
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    fold(fold(state ^ u64::from_le_bytes(word)))
}

#[expect(clippy::cast_possible_truncation, reason = "both halves of the product are used")]
fn fold(state: u64) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let product = u128::from(state.wrapping_add(FACTOR)) * u128::from(FACTOR ^ 0x5851_f42d_4c95_7f2d);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_set_contains_nothing() {
        assert!(!KeySet::default().contains(&Text::new("")));
        let set: KeySet = [""].into_iter().collect();
        assert!(set.contains(&Text::new("")));
        assert!(!set.contains(&Text::new("a")));
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(members in prop::collection::vec("[a-d]{0,9}", 0..200), probe in "[a-d]{0,3}") {
            let theirs: HashSet<&str> = members.iter().map(String::as_str).collect();
            let ours: KeySet = members.iter().map(String::as_str).collect();
            prop_assert_eq!(ours.is_empty(), theirs.is_empty());
            for text in members.iter().chain([&probe]) {
                prop_assert_eq!(ours.contains(&Text::new(text.as_str())), theirs.contains(text.as_str()));
            }
        }
    }
}
