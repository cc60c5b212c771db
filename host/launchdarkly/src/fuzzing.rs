//! Doors for `host/fuzz`; compiled only there.
#![expect(missing_docs, reason = "not part of the interface")]

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::evaluation::{Audience, Request, Ruleset, evaluate_all};
use crate::model::{Context, Flag};
use crate::{downstream, upstream};

pub fn message(event: &str, data: &str) {
    let _ = upstream::message::parse(event, data);
}

pub fn evaluate(flag: &str, context: &[u8]) {
    let Ok(raw) = RawValue::from_string(flag.to_owned()) else { return };
    let (Ok(flag), Ok(context)) = (Flag::parse("flag", &raw), Context::parse(context)) else { return };
    let ruleset = Ruleset::build(None, &[Arc::new(flag)], &[]);
    let request = Request { context: &context, audience: Audience::Server, with_reasons: true, memberships: None };
    let mut body = Vec::new();
    evaluate_all(&ruleset, &request, &mut body);
    assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "an answer is JSON");
}

pub fn context(input: &[u8]) {
    let _ = Context::parse(input);
    if let Ok(text) = std::str::from_utf8(input) {
        downstream::fuzz_segment(text);
    }
}

pub fn post(body: &[u8]) {
    downstream::fuzz_post(body);
}

pub fn gzip(body: &[u8]) {
    use std::io::Write;

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).expect("a vector takes every write");
    let mut compressed = encoder.finish().expect("a vector takes every write");
    downstream::fuzz_post(&compressed);
    // Damaged at a place that depends on the input, for mutations of compressed bytes rarely get past the head.
    if let Some(first) = body.first() {
        let place = usize::from(*first) % compressed.len();
        compressed[place] ^= body.last().copied().unwrap_or(1);
        downstream::fuzz_post(&compressed);
    }
}

pub fn summary(event: &str) {
    upstream::events::fuzz_summary(event);
}

/// A data archive of offline mode.
pub fn archive(bytes: &[u8]) {
    crate::environments::archive::fuzz(bytes);
}
