mod generated;

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use yardarm_launchdarkly_eval::model::Flag;

use super::*;
use crate::data::Item;

const NOW: u64 = 1_700_000_000_000;
const LATER: u64 = NOW + 60_000;

static FLAGS: LazyLock<Items> = LazyLock::new(|| {
    let mut items = Items::default();
    for (key, json) in [
        ("rule", json!({"variations": [true, false]})),
        ("tracked", json!({"variations": ["a", "b", "a"], "trackEvents": true})),
        ("debugged", json!({"variations": [1, {"x": [1, null], "y": 2}], "debugEventsUntilDate": LATER})),
        ("gone", json!({"variations": [true], "trackEvents": true, "deleted": true, "version": 1})),
    ] {
        let raw = RawValue::from_string(json.to_string()).unwrap();
        items.upsert(&Item::Flag(Flag::parse(key, &raw).unwrap().into()));
    }
    items
});

fn moment() -> Moment {
    Moment { unix_ms: NOW, upstream_ms: NOW, instant: Instant::now() }
}

fn processor(schema: u32, capacity: usize) -> Processor {
    Processor::new(schema, capacity, Instant::now())
}

impl Processor {
    fn takes(&mut self, event: &Value) -> Result<(), Loss> {
        self.take(&event.to_string().into(), &FLAGS, moment())
    }

    fn flushes(&mut self) -> Value {
        let read = |it: &Bytes| serde_json::from_slice::<Value>(it).unwrap_or_else(|error| panic!("{it:?}: {error}"));
        self.flush().events.iter().map(read).collect()
    }
}

/// The output for events of one post, all of which are accepted.
fn summarised(schema: u32, events: &Value) -> Value {
    let mut processor = processor(schema, 100);
    for event in events.as_array().unwrap() {
        assert_eq!(processor.takes(event), Ok(()), "{event}");
    }
    processor.flushes()
}

/// An evaluation of `rule` for the user `u`, with other properties.
fn feature(properties: Value) -> Value {
    let mut event = json!({"kind": "feature", "creationDate": 1000, "key": "rule", "user": {"key": "u"}, "version": 3});
    for (name, value) in properties.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

fn kinds(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn known_events_have_known_summaries() {
    let event = json!([{
        "kind": "feature", "creationDate": 1000, "key": "rule", "user": {"key": "u1", "privateAttrs": ["name"]},
        "value": false, "default": true, "version": 16,
    }]);
    let expected = |counter: Value| {
        json!([
            {"kind": "index", "creationDate": 1000, "context": {"key": "u1", "privateAttrs": ["name"]}},
            {"kind": "summary", "startDate": 1000, "endDate": 1000, "features": {
                "rule": {"default": true, "counters": [counter], "contextKinds": ["user"]},
            }},
        ])
    };
    let inferred = expected(json!({"variation": 1, "version": 16, "value": false, "count": 1}));
    assert_eq!(summarised(1, &event), inferred);
    let plain = expected(json!({"version": 16, "value": false, "count": 1}));
    assert_eq!(summarised(2, &event), plain);
    assert_eq!(summarised(4, &event), plain);

    let mixed = json!([
        {
            "kind": "feature", "creationDate": 1000, "key": "rule", "context": {"kind": "org", "key": "o1"}, "version": 16,
            "variation": 1, "value": false, "default": true, "trackEvents": true,
        },
        {"kind": "custom", "creationDate": 1001, "key": "c", "user": {"key": "u2"}, "data": {"x": 1}, "metricValue": 2.5},
        {"kind": "identify", "creationDate": 1002, "key": "u3", "user": {"key": "u3"}},
        {"kind": "alias", "x": 1},
    ]);
    let expected = json!([
        {"kind": "index", "creationDate": 1000, "context": {"kind": "org", "key": "o1"}},
        {
            "kind": "feature", "creationDate": 1000, "key": "rule", "version": 16,
            "context": {"kind": "org", "key": "o1"}, "variation": 1, "value": false, "default": true,
        },
        {"kind": "index", "creationDate": 1001, "context": {"key": "u2"}},
        {
            "kind": "custom", "creationDate": 1001, "key": "c", "data": {"x": 1}, "contextKeys": {"user": "u2"},
            "metricValue": 2.5,
        },
        {"kind": "identify", "creationDate": 1002, "context": {"key": "u3"}},
        {"kind": "alias", "x": 1},
        {"kind": "summary", "startDate": 1000, "endDate": 1000, "features": {
            "rule": {
                "default": true, "counters": [{"variation": 1, "version": 16, "value": false, "count": 1}],
                "contextKinds": ["org"],
            },
        }},
    ]);
    assert_eq!(summarised(2, &mixed), expected);
}

#[tokio::test]
async fn event_and_flag_data_decide_how_an_evaluation_is_reported() {
    let row = |properties: Value| {
        let events = summarised(1, &json!([feature(properties)]));
        let mut own: Vec<_> = kinds(&events).into_iter().map(str::to_owned).collect();
        own.retain(|kind| !["index", "summary"].contains(&kind.as_str()));
        let summary = events.as_array().unwrap().last().unwrap()["features"].clone();
        let counter = summary.as_object().unwrap().values().next().unwrap()["counters"][0].clone();
        let version = if counter["unknown"] == true { "unknown".to_owned() } else { counter["version"].to_string() };
        format!("{} v{version} var {} {}", own.join("+"), counter["variation"], counter["value"])
    };
    for (properties, expected) in [
        // The flag did not exist, so its properties do not count.
        (json!({"version": null, "variation": 1, "value": "x", "trackEvents": true}), " vunknown var null \"x\""),
        (json!({"key": "tracked", "version": null, "value": "a"}), " vunknown var null \"a\""),
        (json!({"version": null, "debugEventsUntilDate": LATER}), " vunknown var null null"),
        // The event has the properties, so the flag does not matter.
        (json!({"variation": 1, "value": false, "trackEvents": true}), "feature v3 var 1 false"),
        (json!({"value": false, "trackEvents": true}), "feature v3 var null false"),
        (json!({"key": "tracked", "value": "a", "trackEvents": false}), " v3 var null \"a\""),
        (json!({"key": "tracked", "value": "a", "debugEventsUntilDate": 1}), " v3 var null \"a\""),
        (json!({"trackEvents": true, "debugEventsUntilDate": LATER}), "feature+debug v3 var null null"),
        (json!({"debugEventsUntilDate": LATER}), "debug v3 var null null"),
        (json!({"debugEventsUntilDate": NOW}), " v3 var null null"),
        (json!({"key": "debugged", "trackEvents": false}), " v3 var null null"),
        // The flag has the properties.
        (json!({"value": true}), " v3 var 0 true"),
        (json!({"value": true, "variation": 5}), " v3 var 5 true"),
        (json!({"value": "neither"}), " v3 var null \"neither\""),
        (json!({"key": "tracked", "value": "a"}), "feature v3 var 0 \"a\""),
        (json!({"key": "tracked", "value": "b", "debugEventsUntilDate": 0}), "feature v3 var 1 \"b\""),
        (json!({"key": "debugged", "value": 1.0}), "debug v3 var 0 1.0"),
        (json!({"key": "debugged", "value": {"y": 2.0, "x": [1, null]}}), "debug v3 var 1 {\"x\":[1,null],\"y\":2.0}"),
        (json!({"key": "debugged", "value": {"y": 2, "x": [1]}}), "debug v3 var null {\"x\":[1],\"y\":2}"),
        (json!({"key": "gone", "value": true}), " v3 var null true"),
        (json!({"key": "unheard of", "value": true}), " v3 var null true"),
    ] {
        assert_eq!(row(properties.clone()), expected, "{properties}");
    }
}

#[tokio::test]
async fn debugging_ends_by_either_clock() {
    for (unix_ms, upstream_ms, is_debugged) in
        [(NOW, 0, true), (NOW, LATER - 1, true), (NOW, LATER, false), (LATER, 0, false), (LATER, NOW, false)]
    {
        let mut processor = processor(2, 100);
        let moment = Moment { unix_ms, upstream_ms, ..moment() };
        let event = feature(json!({"debugEventsUntilDate": LATER}));
        processor.take(&event.to_string().into(), &FLAGS, moment).unwrap();
        let events = processor.flushes();
        assert_eq!(kinds(&events).contains(&"debug"), is_debugged, "{unix_ms} {upstream_ms}");
    }
}

#[tokio::test]
async fn full_and_debug_events_have_the_received_properties_only() {
    let event = feature(json!({
        "variation": 1, "value": {"a": 1.0}, "reason": {"kind": "FALLTHROUGH", "inExperiment": true}, "samplingRatio": 7,
        "trackEvents": true, "debugEventsUntilDate": LATER, "prereqOf": "other", "excludeFromSummaries": true, "x": 1,
    }));
    let full = json!({
        "kind": "feature", "creationDate": 1000, "key": "rule", "version": 3, "context": {"key": "u"}, "variation": 1,
        "value": {"a": 1.0}, "default": null, "reason": {"kind": "FALLTHROUGH", "inExperiment": true}, "samplingRatio": 7,
    });
    let mut debug = full.clone();
    debug["kind"] = "debug".into();
    let index = json!({"kind": "index", "creationDate": 1000, "context": {"key": "u"}});
    assert_eq!(summarised(2, &json!([event])), json!([index, full, debug]));
    for (ratio, expected) in [(json!(1), None), (json!(null), None), (json!(0), Some(0)), (json!(2), Some(2))] {
        let event = feature(json!({"trackEvents": true, "samplingRatio": ratio}));
        let full = &summarised(2, &json!([event]))[1];
        assert_eq!(full.get("samplingRatio").and_then(Value::as_i64), expected, "{full}");
    }
}

#[tokio::test]
async fn a_summary_groups_by_flag_variation_and_version() {
    let events = json!([
        feature(json!({"creationDate": 1005, "variation": 0, "value": true, "default": "first"})),
        feature(json!({"creationDate": 1001, "variation": 0, "value": "other", "default": "second"})),
        feature(json!({"creationDate": 1009, "variation": 1, "value": false, "user": {"key": "v"}})),
        feature(
            json!({"variation": 0, "version": 4, "context": {"kind": "multi", "org": {"key": "o"}, "user": {"key": "u"}}})
        ),
        feature(json!({"creationDate": 1003, "version": null, "value": 1})),
        feature(json!({"creationDate": 1003, "key": "another"})),
        feature(json!({"creationDate": 1, "excludeFromSummaries": true, "trackEvents": true})),
    ]);
    let events = summarised(2, &events);
    let expected = json!({"kind": "summary", "startDate": 1000, "endDate": 1009, "features": {
        "another": {"default": null, "counters": [{"version": 3, "value": null, "count": 1}], "contextKinds": ["user"]},
        "rule": {
            "default": "first",
            "counters": [
                {"unknown": true, "value": 1, "count": 1},
                {"variation": 0, "version": 3, "value": true, "count": 2},
                {"variation": 0, "version": 4, "value": null, "count": 1},
                {"variation": 1, "version": 3, "value": false, "count": 1},
            ],
            "contextKinds": ["org", "user"],
        },
    }});
    assert_eq!(events.as_array().unwrap().last(), Some(&expected));
}

#[tokio::test]
async fn a_context_is_reported_once_and_before_its_first_event() {
    let custom =
        |key: &str| json!({"kind": "custom", "key": "c", "creationDate": 5, "context": {"kind": "org", "key": key}});
    let identify = json!({"kind": "identify", "user": {"key": "u"}});
    let events = json!([
        custom("a"),
        custom("a"),
        {"kind": "click", "user": {"key": "w"}},
        identify,
        feature(json!({})),
        custom("b"),
        identify,
        {"kind": "custom", "key": "c", "context": {"kind": "org", "key": "a", "name": "n"}, "user": {"key": "not looked at"}},
        {"kind": "custom", "key": "c", "user": {"key": "a"}},
    ]);
    let events = summarised(2, &events);
    let mut known = Vec::new();
    let expected = [
        "index", "custom", "custom", "click", "identify", "index", "custom", "identify", "custom", "index", "custom",
        "summary",
    ];
    assert_eq!(kinds(&events), expected);
    for event in events.as_array().unwrap() {
        if event["kind"] == "index" {
            known.push((event["creationDate"].clone(), event["context"]["key"].clone()));
        }
    }
    assert_eq!(known, [(json!(5), json!("a")), (json!(5), json!("b")), (json!(0), json!("a"))]);
}

#[tokio::test(start_paused = true)]
async fn contexts_stay_known_across_posts_for_five_minutes() {
    let mut processor = processor(2, 100);
    for (minute, expected) in [(0, &["index", "summary"][..]), (1, &["summary"]), (6, &["index", "summary"])] {
        tokio::time::advance(Duration::from_secs(60 * minute)).await;
        processor.takes(&feature(json!({}))).unwrap();
        assert_eq!(kinds(&processor.flushes()), expected, "{minute}");
    }
}

#[tokio::test]
async fn contexts_and_values_keep_every_byte() {
    let context = r#"{"key" : "u\u00e9", "n": 1.0, "x":{ } }"#;
    let event = format!(
        r#"{{"kind":"feature","key":"a\"b","user":{context},"version":1,"value":1.50,"default":[ 1e2 ],"trackEvents":true}}"#
    );
    let mut processor = processor(2, 100);
    processor.take(&event.into(), &FLAGS, moment()).unwrap();
    let events: Vec<_> = processor.flush().events.iter().map(|it| String::from_utf8(it.to_vec()).unwrap()).collect();
    let expected = [
        format!(r#"{{"kind":"index","creationDate":0,"context":{context}}}"#),
        format!(
            r#"{{"kind":"feature","creationDate":0,"key":"a\"b","version":1,"context":{context},"value":1.50,"default":[ 1e2 ]}}"#
        ),
        r#"{"kind":"summary","startDate":0,"endDate":0,"features":{"a\"b":{"default":[ 1e2 ],"counters":[{"version":1,"value":1.50,"count":1}],"contextKinds":["user"]}}}"#.to_owned(),
    ];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn capacity_is_for_events_of_their_own_and_counting_goes_on() {
    let custom = |key: &str| json!({"kind": "custom", "key": "c", "user": {"key": key}});
    let mut processor = processor(2, 3);
    for (event, expected) in [
        (custom("a"), Ok(())),
        (feature(json!({"user": {"key": "a"}})), Ok(())),
        // Room for its index event only.
        (custom("b"), Err(Loss::QueueFull)),
        (custom("b"), Err(Loss::QueueFull)),
        (json!({"kind": "alias"}), Err(Loss::QueueFull)),
        (json!({"kind": "identify", "user": {"key": "c"}}), Err(Loss::QueueFull)),
        (feature(json!({"user": {"key": "a"}, "trackEvents": true})), Err(Loss::QueueFull)),
        // No room for its index event, which does not count as a drop.
        (feature(json!({"user": {"key": "c"}})), Ok(())),
    ] {
        assert_eq!(processor.takes(&event), expected, "{event}");
    }
    assert_eq!(processor.taken(), 3);
    let batch = processor.flush();
    assert_eq!((batch.events.len(), batch.stands_for), (4, 3));
    let summary: Value = serde_json::from_slice(&batch.events[3]).unwrap();
    assert_eq!(summary["features"]["rule"]["counters"][0]["count"], 3, "also the one without room");
    // Now there is room, and the context is still not known.
    processor.takes(&feature(json!({"user": {"key": "c"}}))).unwrap();
    assert_eq!(kinds(&processor.flushes()), ["index", "summary"]);
}

#[tokio::test]
async fn a_summary_is_bounded_for_every_kind_of_content() {
    let long = "x".repeat(100_000);
    let fillers: [fn(&str, usize) -> Value; 4] = [
        |long, n| json!({"key": format!("{n}{long}")}),
        |long, n| json!({"version": n, "value": long}),
        |long, n| json!({"key": n.to_string(), "default": long}),
        |long, n| json!({"context": {"kind": format!("{long}{n}"), "key": "k"}}),
    ];
    for (index, filler) in fillers.into_iter().enumerate() {
        let mut processor = processor(2, 0);
        let taken = (0..100).filter(|n| processor.takes(&feature(filler(&long, *n))).is_ok()).count();
        assert!((15..21).contains(&taken), "{index}: {taken}");
        assert_eq!(processor.takes(&feature(filler(&long, 1000))), Err(Loss::SummaryFull), "{index}");
        assert_eq!(processor.takes(&feature(filler(&long, 0))), Ok(()), "{index}: nothing new has to be kept");
        assert_eq!(processor.flush().stands_for, taken + 1, "{index}");
        assert_eq!(processor.takes(&feature(filler(&long, 1000))), Ok(()), "{index}: empty again");
    }
    // Many short entries are bounded too.
    let mut processor = processor(2, 0);
    let taken = (0..100_000).filter(|n| processor.takes(&feature(json!({"version": n}))).is_ok()).count();
    assert!((10_000..25_000).contains(&taken), "{taken}");
}

#[tokio::test]
async fn events_without_output_have_their_own_reason() {
    let mut processor = processor(2, 100);
    let silent = feature(json!({"excludeFromSummaries": true}));
    assert_eq!(processor.takes(&silent), Ok(()), "it makes its context known");
    assert_eq!(processor.takes(&silent), Err(Loss::NothingToSend));
    assert_eq!(processor.flush().stands_for, 1);
    assert!(processor.is_empty());
    assert_eq!(processor.flush(), Batch::default());
}

#[tokio::test]
async fn a_bad_event_does_not_affect_its_neighbours() {
    let mut processor = processor(2, 100);
    processor.takes(&json!({"kind": "identify", "user": {"key": "a"}})).unwrap();
    for bad in [json!(null), json!(1), json!({}), json!({"kind": "custom"}), feature(json!({"version": "1"}))] {
        assert!(matches!(processor.takes(&bad), Err(Loss::Malformed(_))), "{bad}");
    }
    processor.takes(&json!({"kind": "identify", "user": {"key": "b"}})).unwrap();
    assert_eq!(processor.taken(), 2);
    assert_eq!(kinds(&processor.flushes()), ["identify", "identify"]);
}

#[tokio::test]
async fn held_bytes_are_known_and_a_full_processor_is_reported() {
    let custom = |key: &str| json!({"kind": "custom", "key": "c", "user": {"key": key}});
    let mut processor = processor(2, 5);
    assert!(!processor.is_full() && processor.bytes() == 0);
    processor.takes(&custom("a")).unwrap();
    assert!(!processor.is_full(), "two, and room for three more");
    let before = processor.bytes();
    assert!(before > 100, "{before}");
    processor.takes(&custom("a")).unwrap();
    assert!(processor.is_full() && processor.bytes() > before);
    processor.flush();
    assert!(!processor.is_full() && processor.bytes() < before, "only the context is remembered");
    processor.takes(&json!({"kind": "alias", "x": "x".repeat(MAX_BYTES)})).unwrap();
    assert!(processor.is_full(), "by bytes");
    processor.flush();
    let long = "x".repeat(100_000);
    let counted = (0..100).take_while(|n| {
        processor.takes(&feature(json!({"version": n, "value": long}))).unwrap();
        !processor.is_full()
    });
    assert!((8..12).contains(&counted.count()), "by what is counted");
}
