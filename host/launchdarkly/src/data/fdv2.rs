//! Flag data as the second version of LaunchDarkly's delivery protocol ("FDv2") transfers it: objects in groups, each
//! group closed by the state that it leads to.
//!
//! A view beside the ordinary data set, kept only where the protocol is enabled (L267).

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use yardarm_core::sse::Frame;
use yardarm_core::{Applied, Dataset};

use super::FlagData;
use super::item_changes::{ItemChange, changes};
use super::items::{Change, Item, Items};
use super::render::write_text;
use super::state::DataState;

/// All objects of one environment at one moment. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fdv2Data(Arc<Fdv2Objects>);

struct Fdv2Objects {
    items: Items,
    state: DataState,
    poll: OnceLock<Bytes>,
}

/// A step to other objects.
pub(crate) struct ObjectChange {
    after: Fdv2Data,
    /// The objects that are different; `None` for a new set of objects.
    changed: Option<Vec<Item>>,
}

/// An event of the protocol.
pub(crate) struct Event<'a> {
    pub(crate) name: &'static str,
    pub(crate) data: &'a dyn Fn(&mut Vec<u8>),
}

impl ObjectChange {
    /// The transition from the objects `before` to those of `data`, which `change` led to; `None` if no object changed.
    pub(crate) fn new(before: Option<&Fdv2Data>, change: &Change, data: &FlagData) -> Option<Self> {
        let (before, state) = (before.map(|it| &*it.0), data.state());
        if before.is_some_and(|it| it.state == state) {
            return None;
        }
        let changed = match (before, change) {
            (Some(before), Change::Patch(_) | Change::Group(_)) => {
                only_items(changes(Some(&before.items), data.items()))
            }
            _ => None,
        };
        let items = data.items().clone();
        Some(Self { after: Fdv2Data(Arc::new(Fdv2Objects { items, state, poll: OnceLock::new() })), changed })
    }
}

/// The items of changes; `None` if an item is gone without a tombstone, whose version SDKs need.
fn only_items(changes: Vec<ItemChange>) -> Option<Vec<Item>> {
    let item = |change| match change {
        ItemChange::Put(_, item) => Some(item),
        ItemChange::Remove(..) => None,
    };
    changes.into_iter().map(item).collect()
}

impl Fdv2Data {
    /// Name of the present state.
    pub(crate) fn state(&self) -> String {
        self.0.state.to_string()
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
        emit(&Event {
            name: "server-intent",
            data: &|out| write_intent(&self.state(), self.0.state, Intent::UpToDate, out),
        });
    }

    /// A complete transfer.
    fn events(&self, emit: &mut dyn FnMut(&Event<'_>)) {
        emit(&Event {
            name: "server-intent",
            data: &|out| write_intent(&self.state(), self.0.state, Intent::Everything, out),
        });
        for item in self.0.items.live() {
            emit(&Event { name: "put-object", data: &|out| write_put(&item, out) });
        }
        self.end(emit);
    }

    fn end(&self, emit: &mut dyn FnMut(&Event<'_>)) {
        emit(&Event { name: "payload-transferred", data: &|out| write_end(&self.state(), self.0.state, out) });
    }
}

/// What a server intends to send.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Intent {
    /// The caller has everything.
    UpToDate,
    /// A complete transfer.
    Everything,
}

/// Writes the data of `server-intent`. `name` is that of the state, which may have an addition.
pub(crate) fn write_intent(name: &str, state: DataState, intent: Intent, out: &mut Vec<u8>) {
    let (code, reason) = match intent {
        Intent::UpToDate => ("none", "up-to-date"),
        Intent::Everything => ("xfer-full", "cant-catchup"),
    };
    let target = state.revision();
    let text =
        format!(r#"{{"payloads":[{{"id":"{name}","target":{target},"intentCode":"{code}","reason":"{reason}"}}]}}"#);
    out.extend_from_slice(text.as_bytes());
}

/// Writes the data of `payload-transferred`.
pub(crate) fn write_end(name: &str, state: DataState, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"state\":\"{name}\",\"version\":{}}}", state.revision()).as_bytes());
}

impl Dataset for Fdv2Data {
    type Change = ObjectChange;

    const CHANNELS: usize = 1;
    // Most environments have no such streams.
    const IS_LOGGED_UNREAD: bool = false;

    fn apply(_: Option<&Self>, change: &ObjectChange) -> Applied<Self> {
        Applied::News(change.after.clone())
    }

    fn render_change(change: &ObjectChange, _: usize) -> Option<Frame> {
        // In place of a new set of objects, streams read the full data.
        let changed = change.changed.as_ref()?;
        let size: usize = changed.iter().map(|it| it.json().len() + it.key().len() + 100).sum();
        Some(Frame::build(size + 200, |out| {
            for item in changed {
                if item.is_deleted() {
                    Event { name: "delete-object", data: &|out| write_delete(item, out) }.write_sse(out);
                } else {
                    Event { name: "put-object", data: &|out| write_put(item, out) }.write_sse(out);
                }
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
    pub(crate) fn write_sse(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        (self.data)(out);
        out.extend_from_slice(b"\n\n");
    }

    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"event\":\"");
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(b"\",\"data\":");
        (self.data)(out);
        out.push(b'}');
    }
}

fn kind(item: &Item) -> &'static str {
    match item {
        Item::Flag(_) => "flag",
        Item::Segment(_) => "segment",
    }
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

    fn data(before: Option<&FlagData>, change: &Change) -> FlagData {
        match FlagData::apply(before, change) {
            Applied::News(data) => data,
            _ => panic!("newer data"),
        }
    }

    fn text(frame: &Frame) -> String {
        String::from_utf8(frame.payload().to_vec()).unwrap()
    }

    #[test]
    fn groups_are_closed_by_their_state() {
        let put = Change::Put(Items::default().with_live(vec![flag("a", 1)]));
        let before = data(None, &put);
        let first = ObjectChange::new(None, &put, &before).unwrap();
        let state = first.after.state();
        let expected = format!(
            "event: server-intent\ndata: {{\"payloads\":[{{\"id\":\"{state}\",\"target\":1,\"intentCode\":\"xfer-full\",\"reason\":\"cant-catchup\"}}]}}\n\n\
             event: put-object\ndata: {{\"version\":1,\"kind\":\"flag\",\"key\":\"a\",\"object\":{{\"key\":\"a\",\"version\":1}}}}\n\n\
             event: payload-transferred\ndata: {{\"state\":\"{state}\",\"version\":1}}\n\n"
        );
        assert!(Fdv2Data::is_restart(&first));
        assert_eq!(text(&first.after.render_full(0).unwrap()), expected);
        assert!(ObjectChange::new(Some(&first.after), &put, &data(Some(&before), &put)).is_none(), "no change");
        let gone = Change::Patch(Item::Flag(Arc::new(Flag::tombstone("a", 3))));
        let step = ObjectChange::new(Some(&first.after), &gone, &data(Some(&before), &gone)).unwrap();
        let expected = format!(
            "event: delete-object\ndata: {{\"version\":3,\"kind\":\"flag\",\"key\":\"a\"}}\n\n\
             event: payload-transferred\ndata: {{\"state\":\"{}\",\"version\":2}}\n\n",
            step.after.state()
        );
        assert_eq!(text(&Fdv2Data::render_change(&step, 0).unwrap()), expected);
    }

    #[test]
    fn equal_polls_are_rendered_once() {
        // V027
        let put = Change::Put(Items::default().with_live(vec![flag("a", 1)]));
        let objects = ObjectChange::new(None, &put, &data(None, &put)).unwrap().after;
        let polls: Vec<Bytes> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| objects.clone().poll())).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert!(polls.iter().all(|it| it.as_ptr() == polls[0].as_ptr()), "all share one allocation");
    }
}
