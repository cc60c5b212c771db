//! The bytes of `put`, `patch`, `delete` and `ping`, and of the data that SDKs poll.
//!
//! Items are rendered byte for byte as they were received, so properties that this version does not know survive.

use bytes::Bytes;
use yardarm_core::sse::{self, Frame};
use yardarm_launchdarkly_eval::model::Body;

use super::item_map::ItemMap;
use super::items::{Change, Channel, Item, Items};

/// The events for a change on the streams of one channel; `None` if they are not sent any.
pub(crate) fn change(change: &Change, channel: Channel) -> Option<Frame> {
    let items = match (change, channel) {
        (_, Channel::Ping) => return Some(ping()),
        (Change::SegmentsChanged, _) => return None,
        // In its place streams read the full data.
        (Change::Put(_), _) => return None,
        (Change::Patch(item), Channel::All | Channel::Flags) => std::slice::from_ref(item),
        (Change::Group(items), Channel::All | Channel::Flags) => items,
    };
    let is_sent = |it: &&Item| channel == Channel::All || matches!(it, Item::Flag(_));
    let size: usize = items.iter().filter(is_sent).map(|it| it.key().len() + it.json().len() + 64).sum();
    (size > 0).then(|| {
        Frame::build(size, |out| {
            items.iter().filter(is_sent).for_each(|it| write_item(it, channel, out));
        })
    })
}

/// Writes the event for a changed or deleted item.
fn write_item(item: &Item, channel: Channel, out: &mut Vec<u8>) {
    let folder = match (channel, item) {
        (Channel::All, Item::Flag(_)) => "/flags/",
        (Channel::All, Item::Segment(_)) => "/segments/",
        _ => "/",
    };
    let path = format!("{folder}{}", item.key());
    if item.is_deleted() {
        sse::write_event("delete", out, |out| {
            out.extend_from_slice(b"{\"path\":");
            write_text(&path, out);
            out.extend_from_slice(format!(",\"version\":{}}}", item.version()).as_bytes());
        });
    } else {
        sse::write_event("patch", out, |out| {
            out.extend_from_slice(b"{\"path\":");
            write_text(&path, out);
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(item.json());
            out.push(b'}');
        });
    }
}

/// The first event of a new stream of one channel.
pub(crate) fn full(items: &Items, channel: Channel) -> Frame {
    let size = |flags: bool, segments: bool| {
        let flags = if flags { live_size(&items.flags) } else { 0 };
        flags + if segments { live_size(&items.segments) } else { 0 } + 64
    };
    match channel {
        Channel::Ping => ping(),
        Channel::Flags => Frame::event("put", size(true, false), |out| write_map(&items.flags, out)),
        Channel::All => Frame::event("put", size(true, true), |out| {
            out.extend_from_slice(b"{\"path\":\"/\",\"data\":");
            write_everything(items, out);
            out.push(b'}');
        }),
    }
}

/// The map of all flags, as `/sdk/flags` answers it.
pub(crate) fn flag_map(items: &Items) -> Bytes {
    let mut out = Vec::with_capacity(live_size(&items.flags) + 2);
    write_map(&items.flags, &mut out);
    out.into()
}

/// All flags and segments, as `/sdk/latest-all` answers them.
pub(crate) fn everything(items: &Items) -> Bytes {
    let mut out = Vec::with_capacity(live_size(&items.flags) + live_size(&items.segments) + 32);
    write_everything(items, &mut out);
    out.into()
}

/// The event after which client-side SDKs poll. The data is one space, because an empty one makes SSE parsers drop the event
/// (launchdarkly/ld-relay `internal/streams/stream_events.go`).
fn ping() -> Frame {
    Frame::event("ping", 1, |out| out.push(b' '))
}

fn write_everything(items: &Items, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"flags\":");
    write_map(&items.flags, out);
    out.extend_from_slice(b",\"segments\":");
    write_map(&items.segments, out);
    out.push(b'}');
}

fn write_map<B: Body>(items: &ItemMap<B>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, item) in items.iter_live().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_text(item.key(), out);
        out.push(b':');
        out.extend_from_slice(item.json());
    }
    out.push(b'}');
}

/// A JSON string.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always JSON, and a vector takes every write");
}

fn live_size<B: Body>(items: &ItemMap<B>) -> usize {
    items.iter_live().map(|it| it.key().len() + it.json().len() + 4).sum()
}
