//! Keys of records: sequences of parts. No key is a prefix of another one by accident, whatever bytes the parts have.

use std::ops::Bound;

/// A key, or the first parts of one. Each part is preceded by its length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Key(Vec<u8>);

/// Number of bytes of a length.
const LENGTH: usize = 4;

impl Key {
    /// Creates a key of these parts.
    #[must_use]
    pub fn of<P: AsRef<[u8]>>(parts: &[P]) -> Self {
        let size = parts.iter().map(|it| it.as_ref().len() + LENGTH).sum();
        let mut key = Self(Vec::with_capacity(size));
        parts.iter().for_each(|it| key.push(it.as_ref()));
        key
    }

    /// Returns the key with one more part.
    #[must_use]
    pub fn with(&self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        let mut key = Self(Vec::with_capacity(self.0.len() + LENGTH + part.len()));
        key.0.extend_from_slice(&self.0);
        key.push(part);
        key
    }

    fn push(&mut self, part: &[u8]) {
        // A part has far less than four gigabytes: the database refuses longer keys.
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(part);
    }

    /// Returns the number of parts.
    pub(super) fn depth(&self) -> usize {
        parts(&self.0).map_or(0, |it| it.len())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the range of all keys that begin with these parts. Without an end it is unbounded.
    pub(super) fn range(&self) -> (Bound<&[u8]>, Option<Vec<u8>>) {
        let kept = self.0.iter().rposition(|it| *it < u8::MAX);
        let end = kept.map(|last| {
            let mut end = self.0[..=last].to_vec();
            end[last] += 1;
            end
        });
        (Bound::Included(&self.0), end)
    }
}

/// Returns the parts of a stored key; `None` if it is not one.
pub(super) fn parts(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::with_capacity(3);
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        parts.push(part);
        bytes = rest;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_has_the_parts_that_it_was_made_of(all: Vec<Vec<u8>>, more: Vec<u8>) {
            let key = Key::of(&all);
            prop_assert_eq!(parts(key.bytes()), Some(all.iter().map(Vec::as_slice).collect()));
            let longer = key.with(&more);
            prop_assert!(longer.bytes().starts_with(key.bytes()));
            prop_assert_eq!(parts(longer.bytes()).and_then(|it| it.last().map(|it| it.to_vec())), Some(more));
        }

        #[test]
        fn only_its_own_first_parts_are_a_prefix_of_a_key(one: Vec<Vec<u8>>, other: Vec<Vec<u8>>) {
            let is_prefix = Key::of(&other).bytes().starts_with(Key::of(&one).bytes());
            prop_assert_eq!(is_prefix, other.starts_with(&one));
        }

        #[test]
        fn a_range_contains_the_keys_that_begin_with_its_parts(one: Vec<Vec<u8>>, other: Vec<Vec<u8>>) {
            let (prefix, key) = (Key::of(&one), Key::of(&other));
            let (_, end) = prefix.range();
            let is_in = prefix <= key && end.is_none_or(|end| key.bytes() < &end[..]);
            prop_assert_eq!(is_in, other.starts_with(&one));
        }

        #[test]
        fn bytes_that_are_no_key_are_rejected_or_read(bytes: Vec<u8>) {
            if let Some(parts) = parts(&bytes) {
                let key = Key::of(&parts);
                prop_assert_eq!(key.bytes(), &bytes[..]);
            }
        }
    }
}
