//! Flags and segments as payload plugins see them.

use std::sync::Arc;

use bytes::Bytes;
use yardarm_core::hooks::ItemHead;
use yardarm_harness_eval::model::{Flag, Segment};
use yardarm_vendor::payload::PayloadItem;

use super::items::{Domain, Item, Items};

impl PayloadItem for Item {
    type Items = Items;

    const NEEDS_HIGHER_VERSION: bool = false;

    fn head(&self) -> ItemHead {
        let version = u64::try_from(self.version()).unwrap_or(0);
        ItemHead { kind: self.domain().kind(), key: Arc::clone(self.identifier()), version, is_deleted: false }
    }

    fn json(&self) -> Bytes {
        self.json().clone()
    }

    fn live(items: &Items) -> Vec<Self> {
        items.iter().collect()
    }

    fn find(items: &Items, kind: &str, key: &str) -> Option<Bytes> {
        items.get(domain(kind)?, key).map(|it| it.json().clone())
    }

    fn read(kind: &str, key: &str, json: &Bytes) -> Option<Self> {
        let value = serde_json::from_slice(json).ok()?;
        let item = match domain(kind)? {
            Domain::Flag => Self::Flag(Arc::new(Flag::read(value).ok()?)),
            Domain::TargetSegment => Self::Segment(Arc::new(Segment::read(value).ok()?)),
        };
        (**item.identifier() == *key).then_some(item)
    }
}

fn domain(kind: &str) -> Option<Domain> {
    [Domain::Flag, Domain::TargetSegment].into_iter().find(|it| it.kind() == kind)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_of_plugins_have_the_identifier_that_they_are_returned_under() {
        let text = |json: serde_json::Value| Bytes::from(json.to_string());
        let (flag, segment) = (text(json!({"feature": "a", "version": 3})), text(json!({"identifier": "a"})));
        let read = |kind, key, json| <Item as PayloadItem>::read(kind, key, json).map(|it| it.head());
        let head = |kind, version| Some(ItemHead { kind, key: "a".into(), version, is_deleted: false });
        assert_eq!(read("flag", "a", &flag), head("flag", 3));
        assert_eq!(read("segment", "a", &segment), head("segment", 0));
        assert_eq!(read("flag", "b", &flag), None);
        assert_eq!(read("target-segment", "a", &segment), None);
        assert_eq!(read("flag", "a", &Bytes::from_static(b"{")), None);
    }
}
