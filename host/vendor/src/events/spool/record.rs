//! A post as it is stored: how many events it has, and its content, encrypted or not.

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use crate::persisted::seal::{Seal, SealError, SealedBytes};

/// A post: what the vendor's side needs besides the events, in a format of its own, and the events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Everything but the events.
    pub head: Bytes,
    /// The events, in order.
    pub events: Vec<Bytes>,
}

/// Why a stored post cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is encrypted with another key, or was altered.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It is encrypted, and there is no key.
    #[error("the post is encrypted, and no key is configured")]
    NoKey,
    /// It is not in the format of this version.
    #[error("the post is not in the format of this version")]
    Format,
}

/// What is known of a post without its content.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Header {
    /// Number of events.
    pub(super) events: usize,
    /// Size of the content in bytes.
    pub(super) bytes: usize,
    /// When the post was accepted, in Unix milliseconds.
    pub(super) at_ms: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    events: usize,
    bytes: usize,
    at_ms: u64,
    content: Content,
}

#[derive(Serialize, Deserialize)]
enum Content {
    Plain(#[serde(with = "serde_bytes")] Vec<u8>),
    Sealed(SealedBytes),
}

impl Entry {
    /// Returns the size of the content in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let parts = || std::iter::once(&self.head).chain(&self.events);
        parts().map(|it| size_of::<u32>() + it.len()).sum()
    }

    /// Writes the parts, each preceded by its length.
    fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.size());
        for part in std::iter::once(&self.head).chain(&self.events) {
            // Posts are bounded far below four gigabytes.
            content.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            content.extend_from_slice(part);
        }
        content
    }

    pub(super) fn decode(content: Vec<u8>) -> Result<Self, RecordError> {
        let mut content = Bytes::from(content);
        let mut parts = Vec::new();
        while content.has_remaining() {
            let length = content.try_get_u32_le().map_err(|_| RecordError::Format)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > content.remaining() {
                return Err(RecordError::Format);
            }
            parts.push(content.split_to(length));
        }
        let mut parts = parts.into_iter();
        Ok(Self { head: parts.next().ok_or(RecordError::Format)?, events: parts.collect() })
    }
}

impl Record {
    pub(super) fn new(entry: &Entry, at_ms: u64, seal: Option<&Seal>) -> Result<Self, RecordError> {
        let content = entry.encode();
        let bytes = content.len();
        let content = match seal {
            Some(seal) => Content::Sealed(seal.seal_bytes(content)?),
            None => Content::Plain(content),
        };
        Ok(Self { events: entry.events.len(), bytes, at_ms, content })
    }

    pub(super) fn open(self, seal: Option<&Seal>) -> Result<Entry, RecordError> {
        match (self.content, seal) {
            (Content::Plain(content), _) => Entry::decode(content),
            (Content::Sealed(sealed), Some(seal)) => Entry::decode(seal.open_bytes(sealed)?),
            (Content::Sealed(_), None) => Err(RecordError::NoKey),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use yardarm_core::Secret;

    use super::*;

    fn entry(head: Vec<u8>, events: Vec<Vec<u8>>) -> Entry {
        Entry { head: head.into(), events: events.into_iter().map(Bytes::from).collect() }
    }

    proptest! {
        #[test]
        fn a_post_is_read_as_it_was_written(head: Vec<u8>, events: Vec<Vec<u8>>, is_sealed: bool) {
            let seal = is_sealed.then(|| Seal::new(&Secret::new("a generated secret"), "events").unwrap());
            let entry = entry(head, events);
            let record = Record::new(&entry, 7, seal.as_ref()).unwrap();
            prop_assert_eq!((record.events, record.bytes), (entry.events.len(), entry.size()));
            prop_assert_eq!(record.open(seal.as_ref()).unwrap(), entry);
        }

        #[test]
        fn any_bytes_are_read_or_refused(content: Vec<u8>) {
            if let Ok(entry) = Entry::decode(content.clone()) {
                prop_assert_eq!(entry.encode(), content);
            }
        }
    }

    #[test]
    fn only_the_key_of_a_post_opens_it() {
        let seal = |secret| Seal::new(&Secret::new(secret), "events").unwrap();
        let written = || Record::new(&entry(vec![1], vec![b"canary".to_vec()]), 7, Some(&seal("one"))).unwrap();
        assert!(matches!(written().open(Some(&seal("other"))), Err(RecordError::Seal(_))));
        assert!(matches!(written().open(None), Err(RecordError::NoKey)));
        let Content::Sealed(_) = written().content else { panic!("it is encrypted") };
    }
}
