//! A comparison with the vendor's own evaluator in Rust, for generated flags and contexts.
//!
//! The two differ in known situations, which `vendor-differences.json` among the vectors lists; the generated data stays
//! out of them.

#[path = "evaluation/data.rs"]
mod data;

use std::collections::HashMap;
use std::sync::Arc;

use launchdarkly_server_sdk_evaluation as theirs;
use proptest::prelude::*;
use serde_json::{Value, json};
use yardarm_launchdarkly_eval::evaluation::{Audience, Request, Ruleset, evaluate_each};
use yardarm_launchdarkly_eval::model::{Context, Flag, Segment};

use self::data::Data;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn the_vendors_evaluator_agrees(data in data::data()) {
        let ours = our_results(&data);
        for (key, theirs) in their_results(&data) {
            prop_assert_eq!(&ours[&key], &theirs, "flag {}\n{}", key, serde_json::to_string(&data.json()).unwrap_or_default());
        }
    }
}

/// Variation, reason and evaluated prerequisites of each flag.
type Results = HashMap<String, Value>;

fn our_results(data: &Data) -> Results {
    let raw = |value: &Value| serde_json::value::to_raw_value(value).expect("JSON");
    let flags: Vec<_> =
        data.flags.iter().map(|(key, json)| Arc::new(Flag::parse(key, &raw(json)).expect("a flag"))).collect();
    let segments: Vec<_> =
        data.segments.iter().map(|(key, json)| Arc::new(Segment::parse(key, &raw(json)).expect("a segment"))).collect();
    let context = Context::parse(data.context.to_string().as_bytes()).expect("a context");
    let ruleset = Ruleset::build(None, &flags, &segments);
    let request = Request { context: &context, audience: Audience::Server, with_reasons: true, memberships: None };
    let mut results = Results::new();
    evaluate_each(&ruleset, &request, &mut |evaluated| {
        let mut reason = Vec::new();
        evaluated.write_reason(&mut reason);
        let reason: Value = serde_json::from_slice(&reason).expect("JSON");
        let value: Value = serde_json::from_slice(evaluated.value()).expect("JSON");
        let prerequisites: Vec<_> = evaluated.prerequisites().collect();
        let result = json!({
            "value": value, "variation": evaluated.variation(), "reason": reason, "prerequisites": prerequisites,
        });
        results.insert(evaluated.key().to_owned(), result);
    });
    results
}

fn their_results(data: &Data) -> Results {
    let store = Store {
        flags: data.flags.iter().map(|(key, json)| (key.clone(), parse(json))).collect(),
        segments: data.segments.iter().map(|(key, json)| (key.clone(), parse(json))).collect(),
    };
    let context: theirs::Context = parse(&data.context);
    let mut results = Results::new();
    for (key, flag) in &store.flags {
        let recorder = Recorder { flag: key.clone(), keys: std::cell::RefCell::default() };
        let detail = theirs::evaluate(&store, flag, &context, Some(&recorder));
        let malformed = matches!(&detail.reason, theirs::Reason::Error { .. });
        let result = json!({
            "value": detail.value.map_or(Value::Null, |value| serde_json::to_value(value).expect("JSON")),
            // Their errors keep the bad index.
            "variation": if malformed { None } else { detail.variation_index },
            "reason": detail.reason,
            "prerequisites": recorder.keys.into_inner(),
        });
        results.insert(key.clone(), result);
    }
    results
}

fn parse<T: serde::de::DeserializeOwned>(json: &Value) -> T {
    serde_json::from_value(json.clone()).expect("what the vendor's crate reads")
}

struct Store {
    flags: HashMap<String, theirs::Flag>,
    segments: HashMap<String, theirs::Segment>,
}

impl theirs::Store for Store {
    fn flag(&self, key: &str) -> Option<theirs::Flag> {
        self.flags.get(key).cloned()
    }

    fn segment(&self, key: &str) -> Option<theirs::Segment> {
        self.segments.get(key).cloned()
    }
}

/// Notes the prerequisites of one flag.
struct Recorder {
    flag: String,
    keys: std::cell::RefCell<Vec<String>>,
}

impl theirs::PrerequisiteEventRecorder for Recorder {
    fn record(&self, event: theirs::PrerequisiteEvent) {
        if event.target_flag_key == self.flag {
            self.keys.borrow_mut().push(event.prerequisite_flag.key);
        }
    }
}
