//! Flag data as the second version of LaunchDarkly's delivery protocol ("FDv2") transfers it: objects in groups, each
//! group closed by the state that it leads to.
//!
//! A view beside the ordinary data set, kept only where the protocol is enabled. The name of a state is derived from the
//! data alone, so it is the same on every gateway and after a restart (L267).

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use yardarm_core::sse::Frame;
use yardarm_core::{Applied, Dataset};

use super::items::{Change, Item, Items};
use super::render::write_text;

/// All objects of one environment at one moment. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fdv2Data(Arc<Fdv2Objects>);

struct Fdv2Objects {
    items: Items,
    /// Digests of all objects together. A sum, so that a change of one object digests one object.
    digest: u128,
    /// Counts changes; the protocol requires an increasing number.
    revision: u64,
    poll: OnceLock<Bytes>,
}

/// A step to other objects.
pub(crate) struct ObjectChange {
    after: Fdv2Data,
    /// The only object that is different; `None` for a new set of objects.
    changed: Option<Item>,
}

/// An event of the protocol.
struct Event<'a> {
    name: &'static str,
    data: &'a dyn Fn(&mut Vec<u8>),
}

impl ObjectChange {
    /// The transition from the objects `before` to `items`, which `change` led to; `None` if no object changed.
    pub(crate) fn new(before: Option<&Fdv2Data>, change: &Change, items: &Items) -> Option<Self> {
        let before = before.map(|it| &*it.0);
        let (digest, changed) = match (before, change) {
            (Some(before), Change::Patch(item)) => {
                let old = find(&before.items, item).map_or(0, |it| digest(&it));
                let new = if item.is_deleted() { 0 } else { digest(item) };
                (before.digest.wrapping_sub(old).wrapping_add(new), Some(item.clone()))
            }
            _ => (items.live().map(|it| digest(&it)).fold(0, u128::wrapping_add), None),
        };
        if before.is_some_and(|it| it.digest == digest) {
            return None;
        }
        let revision = before.map_or(0, |it| it.revision) + 1;
        let after = Fdv2Data(Arc::new(Fdv2Objects { items: items.clone(), digest, revision, poll: OnceLock::new() }));
        Some(Self { after, changed })
    }
}

impl Fdv2Data {
    /// Name of the present state.
    pub(crate) fn state(&self) -> String {
        format!("{:032x}", self.0.digest)
    }

    /// A complete transfer as the body of a poll, rendered on the first call.
    pub(crate) fn poll(&self) -> Bytes {
        let write = || {
            let mut body = b"{\"events\":[".to_vec();
            let mut is_first = true;
            self.events(&mut |event| {
                if !std::mem::replace(&mut is_first, false) {
                    body.push(b',');
                }
                event.write_json(&mut body);
            });
            body.extend_from_slice(b"]}");
            body.into()
        };
        self.0.poll.get_or_init(write).clone()
    }

    /// The body of a poll by an SDK that is up to date.
    pub(crate) fn nothing_new(&self) -> Vec<u8> {
        let mut body = b"{\"events\":[".to_vec();
        self.no_intent(&mut |event| event.write_json(&mut body));
        body.extend_from_slice(b"]}");
        body
    }

    /// The first event on a stream of an SDK that is up to date.
    pub(crate) fn nothing_new_frame(&self) -> Frame {
        Frame::build(200, |out| self.no_intent(&mut |event| event.write_sse(out)))
    }

    fn no_intent(&self, emit: &mut dyn FnMut(&Event<'_>)) {
        let intent = |out: &mut Vec<u8>| self.write_intent("none", "up-to-date", out);
        emit(&Event { name: "server-intent", data: &intent });
    }

    /// A complete transfer.
    fn events(&self, emit: &mut dyn FnMut(&Event<'_>)) {
        let intent = |out: &mut Vec<u8>| self.write_intent("xfer-full", "cant-catchup", out);
        emit(&Event { name: "server-intent", data: &intent });
        for item in self.0.items.live() {
            emit(&Event { name: "put-object", data: &|out| write_put(&item, out) });
        }
        self.end(emit);
    }

    fn end(&self, emit: &mut dyn FnMut(&Event<'_>)) {
        let text = format!("{{\"state\":\"{}\",\"version\":{}}}", self.state(), self.0.revision);
        emit(&Event { name: "payload-transferred", data: &|out| out.extend_from_slice(text.as_bytes()) });
    }

    fn write_intent(&self, code: &str, reason: &str, out: &mut Vec<u8>) {
        let (state, target) = (self.state(), self.0.revision);
        out.extend_from_slice(
            format!(
                r#"{{"payloads":[{{"id":"{state}","target":{target},"intentCode":"{code}","reason":"{reason}"}}]}}"#
            )
            .as_bytes(),
        );
    }
}

impl Dataset for Fdv2Data {
    type Change = ObjectChange;

    const CHANNELS: usize = 1;

    fn apply(_: Option<&Self>, change: &ObjectChange) -> Applied<Self> {
        Applied::News(change.after.clone())
    }

    fn render_change(change: &ObjectChange, _: usize) -> Option<Frame> {
        // In place of a new set of objects, streams read the full data.
        let item = change.changed.as_ref()?;
        Some(Frame::build(item.json().len() + 300, |out| {
            if item.is_deleted() {
                Event { name: "delete-object", data: &|out| write_delete(item, out) }.write_sse(out);
            } else {
                Event { name: "put-object", data: &|out| write_put(item, out) }.write_sse(out);
            }
            change.after.end(&mut |event| event.write_sse(out));
        }))
    }

    fn is_restart(change: &ObjectChange) -> bool {
        change.changed.is_none()
    }

    fn render_full(&self, _: usize) -> Option<Frame> {
        let size: usize = self.0.items.live().map(|it| it.json().len() + it.key().len() + 100).sum();
        Some(Frame::build(size + 400, |out| self.events(&mut |event| event.write_sse(out))))
    }
}

impl Event<'_> {
    fn write_sse(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        (self.data)(out);
        out.extend_from_slice(b"\n\n");
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"event\":\"");
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(b"\",\"data\":");
        (self.data)(out);
        out.push(b'}');
    }
}

/// The live object of the same kind and key.
fn find(items: &Items, like: &Item) -> Option<Item> {
    match like {
        Item::Flag(it) => items.flag(it.key()).cloned().map(Item::Flag),
        Item::Segment(it) => items.segment(it.key()).cloned().map(Item::Segment),
    }
}

fn kind(item: &Item) -> &'static str {
    match item {
        Item::Flag(_) => "flag",
        Item::Segment(_) => "segment",
    }
}

fn digest(item: &Item) -> u128 {
    let mut hash = Sha256::new();
    for part in [kind(item).as_bytes(), b"\0", item.key().as_bytes(), b"\0", item.json()] {
        hash.update(part);
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hash.finalize()[..16]);
    u128::from_be_bytes(first)
}

/// The item's own version, which SDKs compare.
fn write_head(item: &Item, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"version\":{},\"kind\":\"{}\",\"key\":", item.version(), kind(item)).as_bytes());
    write_text(item.key(), out);
}

fn write_put(item: &Item, out: &mut Vec<u8>) {
    write_head(item, out);
    out.extend_from_slice(b",\"object\":");
    out.extend_from_slice(item.json());
    out.push(b'}');
}

fn write_delete(item: &Item, out: &mut Vec<u8>) {
    write_head(item, out);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use yardarm_launchdarkly_eval::model::Flag;

    use super::super::message;
    use super::*;

    fn flag(key: &str, version: i64) -> Item {
        let json = format!(r#"{{"key":"{key}","version":{version}}}"#);
        Item::Flag(Arc::new(message::flag(key, &RawValue::from_string(json).unwrap()).unwrap()))
    }

    fn items(all: &[Item]) -> Items {
        Items::default().with_live(all.to_vec())
    }

    fn text(frame: &Frame) -> String {
        String::from_utf8(frame.payload().to_vec()).unwrap()
    }

    #[test]
    fn the_name_of_a_state_depends_on_the_data_only() {
        let first = ObjectChange::new(None, &Change::Put(Items::default()), &items(&[flag("a", 1)])).unwrap();
        let both = items(&[flag("a", 1), flag("b", 2)]);
        let step = ObjectChange::new(Some(&first.after), &Change::Patch(flag("b", 2)), &both).unwrap();
        let whole = ObjectChange::new(None, &Change::Put(both.clone()), &both).unwrap();
        assert_eq!(step.after.state(), whole.after.state());
        assert_ne!(step.after.state(), first.after.state());
        let gone = Item::Flag(Arc::new(Flag::tombstone("b", 3)));
        let back = ObjectChange::new(Some(&step.after), &Change::Patch(gone), &items(&[flag("a", 1)])).unwrap();
        assert_eq!(back.after.state(), first.after.state());
        let same = Change::Put(items(&[flag("a", 1)]));
        assert!(ObjectChange::new(Some(&back.after), &same, &items(&[flag("a", 1)])).is_none(), "no change");
    }

    #[test]
    fn groups_are_closed_by_their_state() {
        let first = ObjectChange::new(None, &Change::Put(Items::default()), &items(&[flag("a", 1)])).unwrap();
        let state = first.after.state();
        let expected = format!(
            "event: server-intent\ndata: {{\"payloads\":[{{\"id\":\"{state}\",\"target\":1,\"intentCode\":\"xfer-full\",\"reason\":\"cant-catchup\"}}]}}\n\n\
             event: put-object\ndata: {{\"version\":1,\"kind\":\"flag\",\"key\":\"a\",\"object\":{{\"key\":\"a\",\"version\":1}}}}\n\n\
             event: payload-transferred\ndata: {{\"state\":\"{state}\",\"version\":1}}\n\n"
        );
        assert!(Fdv2Data::is_restart(&first));
        assert_eq!(text(&first.after.render_full(0).unwrap()), expected);
        let gone = Item::Flag(Arc::new(Flag::tombstone("a", 3)));
        let step = ObjectChange::new(Some(&first.after), &Change::Patch(gone), &items(&[])).unwrap();
        let expected = format!(
            "event: delete-object\ndata: {{\"version\":3,\"kind\":\"flag\",\"key\":\"a\"}}\n\n\
             event: payload-transferred\ndata: {{\"state\":\"{}\",\"version\":2}}\n\n",
            step.after.state()
        );
        assert_eq!(text(&Fdv2Data::render_change(&step, 0).unwrap()), expected);
    }
}
