//! A flag and a context that come from outside, evaluated: no input may panic, loop or exhaust memory.
#![no_main]

use std::sync::Arc;

use serde_json::value::RawValue;
use yardarm_launchdarkly_eval::evaluation::{Audience, Request, Ruleset, evaluate_all};
use yardarm_launchdarkly_eval::model::{Context, Flag};

libfuzzer_sys::fuzz_target!(|input: (&str, &str)| {
    let Ok(raw) = RawValue::from_string(input.0.to_owned()) else { return };
    let (Ok(flag), Ok(context)) = (Flag::parse("flag", &raw), Context::parse(input.1.as_bytes())) else { return };
    let ruleset = Ruleset::build(None, &[Arc::new(flag)], &[]);
    let request = Request { context: &context, audience: Audience::Server, with_reasons: true, memberships: None };
    let mut body = Vec::new();
    evaluate_all(&ruleset, &request, &mut body);
    assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "an answer is JSON");
});
