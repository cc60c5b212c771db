//! The values of a configuration file, by kind.
#![no_main]

use yardarm_core::settings::{Key, Kind, Reader, Values};

const KEYS: &[Key] = &[
    Key { path: "a.address", kind: Kind::Address, default: "0.0.0.0:1", about: "" },
    Key { path: "a.size", kind: Kind::Size, default: "1MiB", about: "" },
    Key { path: "b[].secret", kind: Kind::Secret, default: "", about: "" },
    Key { path: "b[].list", kind: Kind::List, default: "", about: "" },
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
