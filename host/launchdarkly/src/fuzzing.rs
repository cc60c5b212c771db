//! Doors for `host/fuzz`; compiled only there.
#![expect(missing_docs, reason = "not part of the interface")]

use std::sync::Arc;

use bytes::Bytes;
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
    upstream::events::fuzz_events(Bytes::copy_from_slice(body));
}

pub fn summary(event: &str) {
    upstream::events::fuzz_summary(event);
}
