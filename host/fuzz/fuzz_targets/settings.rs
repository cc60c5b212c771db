//! The values of a configuration file, by kind.
#![no_main]

use yardarm_core::settings::{Key, Kind, Reader, Values};

const fn key(path: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { path, kind, default, about: "", bounds: None }
}

const KEYS: &[Key] = &[
    key("a.address", Kind::Address, "0.0.0.0:1"),
    key("a.size", Kind::Size, "1MiB"),
    key("b[].secret", Kind::Secret, ""),
    key("b[].list", Kind::List, ""),
];

libfuzzer_sys::fuzz_target!(|input: &str| {
    let Ok(document) = serde_json::from_str(input) else { return };
    let mut values = Values::default();
    let _ = values.add_file(&document, KEYS);
    let lookup = |_: &str| None;
    let mut reader = Reader::new(&values, KEYS, &lookup);
    reader.address("a.address");
    reader.size("a.size");
    reader.each("b", |entry| entry.list("list"));
});
