//! Attributes of items, and the largest item that is stored.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::Record;

/// Partition key of the table.
pub(super) const NAMESPACE: &str = "namespace";
/// Sort key of the table.
pub(super) const KEY: &str = "key";
/// Version of a record.
pub(super) const VERSION: &str = "version";
/// Text of a record.
pub(super) const ITEM: &str = "item";

/// Largest estimated size of an item in bytes, as other writers of this layout have it. DynamoDB accepts 400 KB.
const MAX_SIZE: usize = 400_000;
/// Size of an item without attributes.
const OVERHEAD: usize = 100;

pub(super) type Attributes = HashMap<String, AttributeValue>;

/// The keys of an item.
pub(super) fn key_values(namespace: &str, key: &str) -> Attributes {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    HashMap::from([(NAMESPACE.to_owned(), text(namespace)), (KEY.to_owned(), text(key))])
}

/// The item of a record.
pub(super) fn record_item(namespace: &str, record: &Record) -> Attributes {
    let mut item = key_values(namespace, &record.key);
    item.insert(VERSION.to_owned(), AttributeValue::N(record.version.to_string()));
    item.insert(ITEM.to_owned(), AttributeValue::S(String::from_utf8_lossy(&record.text).into_owned()));
    item
}

/// Whether an item is small enough to be stored.
pub(super) fn fits(item: &Attributes) -> bool {
    let value = |it: &AttributeValue| match it {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        _ => 0,
    };
    OVERHEAD + item.iter().map(|(name, it)| name.len() + value(it)).sum::<usize>() <= MAX_SIZE
}

/// The key of an item.
pub(super) fn key_of(item: &Attributes) -> Option<String> {
    text_of(item, KEY).map(str::to_owned)
}

/// A text attribute of an item.
pub(super) fn text_of<'a>(item: &'a Attributes, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// A numeric attribute of an item; `None` also for a number that does not fit.
pub(super) fn number_of(item: &Attributes, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// The texts of a set.
pub(super) fn set_of(item: &Attributes, name: &str) -> Vec<String> {
    item.get(name).and_then(|it| it.as_ss().ok()).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_an_item_is_estimated_as_by_other_writers() {
        let item = |length: usize| {
            let text = "x".repeat(length).into();
            record_item("p:things", &Record { key: "abc".into(), version: 12, text })
        };
        // 100, and names and values: namespace p:things, key abc, version 12, item and the text.
        let rest = 100 + (9 + 8) + (3 + 3) + (7 + 2) + 4;
        assert!(fits(&item(400_000 - rest)));
        assert!(!fits(&item(400_001 - rest)));
    }
}
