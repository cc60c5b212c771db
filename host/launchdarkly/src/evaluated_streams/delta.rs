//! From one view to the next: what clients must be told so that they end up with the newer one.
//!
//! Clients take a `patch` or `delete` only if its version is higher than that of what they have, be it a flag or what
//! is left of a deleted one; a result changes without a new version when a segment or prerequisite does. A `put` is
//! always taken. So each step is one `put` unless `patch` and `delete` are sure to be taken, all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use yardarm_core::sse::{Frame, write_event};
use yardarm_core::{Applied, Dataset};

use super::results::GroupResults;
use crate::data::render::write_text;

/// Events of one step; with more of them a `put` is sent.
pub(super) const MOST_EVENTS: usize = 16;
/// Deleted flags that are remembered; when there are more a `put` is sent, which makes clients forget them.
const MOST_TOMBSTONES: usize = 64;

/// What a group has announced last.
pub(super) struct Announced {
    put: Frame,
}

/// One change of a group.
pub(super) struct Delta {
    /// Everything, from now on.
    pub(super) put: Frame,
    /// What has changed, if it can be told in parts.
    pub(super) parts: Option<Frame>,
}

/// What clients of the group may remember of flags that they were told to delete: the highest version, by key.
///
/// Who came later was sent a `put` and remembers less, which makes no difference: what is higher than this is news to all.
#[derive(Default)]
pub(super) struct Tombstones(BTreeMap<Arc<str>, i64>);

impl Delta {
    /// The step to the first view there is.
    pub(super) fn first(results: &GroupResults) -> Self {
        Self { put: results.put().clone(), parts: None }
    }

    /// The step between two views in which exactly the flags with `keys` differ.
    pub(super) fn between(
        old: &GroupResults,
        new: &GroupResults,
        keys: &[Arc<str>],
        tombstones: &mut Tombstones,
    ) -> Self {
        let put = new.put().clone();
        let parts = (keys.len() <= MOST_EVENTS && !old.has_aliases() && !new.has_aliases())
            .then(|| parts(old, new, keys, tombstones))
            .flatten()
            // Both are one allocation that is sent as it is, so their sizes can be compared.
            .filter(|parts| parts.chunk().len() < put.chunk().len());
        if parts.is_none() {
            tombstones.0.clear();
        }
        Self { put, parts }
    }
}

/// `patch` and `delete` for the flags with `keys`, one after the other in one frame; `None` if one might be ignored.
fn parts(old: &GroupResults, new: &GroupResults, keys: &[Arc<str>], tombstones: &mut Tombstones) -> Option<Frame> {
    let mut is_news = true;
    let frame = Frame::build(256, |out| {
        for key in keys {
            let (was, is) = (old.entry(key), new.entry(key));
            let known = if was.is_empty() { tombstones.0.get(key).copied() } else { old.version(key) };
            let version = new.version(key).unwrap_or(0);
            // To SDKs 0 is the same as no version.
            is_news &= version > known.unwrap_or(0).max(0);
            if is.is_empty() {
                write_delete(key, version, out);
                tombstones.0.insert(Arc::clone(key), version);
            } else {
                write_patch(key, is, out);
                tombstones.0.remove(key);
            }
        }
    });
    (is_news && tombstones.0.len() <= MOST_TOMBSTONES).then_some(frame)
}

/// The entry with its key inside: `"KEY":{…}` becomes `{"key":"KEY",…}`.
fn write_patch(key: &str, entry: &[u8], out: &mut Vec<u8>) {
    write_event("patch", out, |out| {
        out.extend_from_slice(b"{\"key\":");
        let start = out.len();
        write_text(key, out);
        let key_and_colon = out.len() - start + 1;
        out.push(b',');
        // An entry is never an empty object, so what follows the brace is a property.
        out.extend_from_slice(entry.get(key_and_colon + 1..).unwrap_or_default());
    });
}

fn write_delete(key: &str, version: i64, out: &mut Vec<u8>) {
    write_event("delete", out, |out| {
        out.extend_from_slice(b"{\"key\":");
        write_text(key, out);
        out.extend_from_slice(format!(",\"version\":{version}}}").as_bytes());
    });
}

impl Dataset for Announced {
    type Change = Delta;

    const CHANNELS: usize = 1;

    fn apply(_: Option<&Self>, delta: &Delta) -> Applied<Self> {
        Applied::News(Self { put: delta.put.clone() })
    }

    fn render_change(delta: &Delta, _: usize) -> Option<Frame> {
        delta.parts.clone()
    }

    fn is_restart(delta: &Delta) -> bool {
        delta.parts.is_none()
    }

    fn render_full(&self, _: usize) -> Option<Frame> {
        Some(self.put.clone())
    }
}
