//! The events that bring clients from the previous results to the next ones.
//!
//! Clients apply a `patch` or `delete` only if its version is higher than that of their flag or tombstone; a result changes
//! without a new version when a segment or prerequisite does. A `put` is always applied. So each step is one `put` unless
//! every `patch` and `delete` is certain to be applied. Objects of the second version of the delivery protocol are always
//! applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use yardarm_core::sse::{Frame, write_event};
use yardarm_core::{Applied, Dataset};

use super::results::GroupResults;
use crate::data::render::write_text;
use crate::evaluation::ResultFormat;
use crate::evaluation::result_format::write_delete as write_object_delete;

/// Events of one step; with more of them a `put` is sent.
pub(super) const MOST_EVENTS: usize = 16;
/// Deleted flags that are remembered; with more of them a `put` is sent, which makes clients drop their tombstones.
const MOST_TOMBSTONES: usize = 64;

/// The last announced results of a group.
pub(super) struct Announced {
    put: Frame,
}

/// One change of a group.
pub(super) struct Delta {
    /// Everything, from now on.
    pub(super) put: Frame,
    /// The changed flags as `patch` and `delete`, if that is possible.
    pub(super) parts: Option<Frame>,
}

/// Tombstones that clients of the group may have: the highest version of each deleted flag, by key.
///
/// Clients that connected later were sent a `put` and have fewer. A version higher than this is newer for all of them.
#[derive(Default)]
pub(super) struct Tombstones(BTreeMap<Arc<str>, i64>);

impl Delta {
    /// The step to the first results.
    pub(super) fn first(results: &GroupResults) -> Self {
        Self { put: results.put().clone(), parts: None }
    }

    /// The step between two results in which exactly the flags with `keys` differ.
    pub(super) fn between(
        old: &GroupResults,
        new: &GroupResults,
        keys: &[Arc<str>],
        tombstones: &mut Tombstones,
    ) -> Self {
        let put = new.put().clone();
        let parts = (keys.len() <= MOST_EVENTS && !old.has_aliases() && !new.has_aliases())
            .then(|| match new.format() {
                ResultFormat::Evalx => parts(old, new, keys, tombstones),
                ResultFormat::Objects => Some(objects(old, new, keys)),
            })
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
            // SDKs treat 0 as no version.
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

/// `put-object` and `delete-object` for the flags with `keys`, and the state that they lead to. Clients apply them whatever
/// the version.
fn objects(old: &GroupResults, new: &GroupResults, keys: &[Arc<str>]) -> Frame {
    Frame::build(256, |out| {
        for key in keys {
            let entry = new.entry(key);
            if entry.is_empty() {
                let version = new.version(key).or_else(|| old.version(key)).unwrap_or(1);
                write_event("delete-object", out, |out| write_object_delete(key, version, out));
            } else {
                out.extend_from_slice(entry);
            }
        }
        new.format().write_end(new.snapshot().data(), out);
    })
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
