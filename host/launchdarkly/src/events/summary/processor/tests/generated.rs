//! Generated events.

use proptest::prelude::*;

use super::*;

/// JSON of all shapes.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3_i64..LATER as i64 * 2).prop_map(Value::from),
        "user|multi|k|\\PC{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("key|kind|user|org", inner, 0..4).prop_map(|it| it.into_iter().collect()),
        ]
    })
}

/// Nearly valid events: the right kinds with properties of any type.
fn any_event() -> impl Strategy<Value = Value> {
    let name = "key|context|version|variation|value|default|reason|trackEvents|debugEventsUntilDate|samplingRatio|excludeFromSummaries|data|metricValue|creationDate";
    let odd = prop::collection::hash_map(name, any_json(), 0..3);
    ("feature|custom|identify|alias|", 0..5_u8, prop::option::of(0..3_i64), any::<Option<bool>>(), odd).prop_map(
        |(kind, user, version, track, odd)| {
            let mut event = json!({"kind": kind, "key": "rule", "user": {"key": user.to_string()}, "version": version});
            event["trackEvents"] = track.into();
            odd.into_iter().for_each(|(name, value)| event[name] = value);
            event
        },
    )
}

proptest::proptest! {
    /// For any input the output is JSON within capacity, and every event is either in a batch or dropped for a reason.
    #[test]
    fn counts_add_up(events in proptest::collection::vec(any_event(), 0..30), capacity in 0_usize..20, schema in 1_u32..5, flush_every in 1_usize..40) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let mut processor = processor(schema, capacity);
        let (mut lost, mut sent, mut counted, mut expected) = (0, 0, 0, 0);
        for (index, event) in events.iter().enumerate() {
            let outcome = processor.take(&event.to_string().into(), &FLAGS, moment());
            lost += usize::from(outcome.is_err());
            let is_read = !matches!(outcome, Err(Loss::Malformed(_)));
            expected += u64::from(is_read && event["kind"] == "feature" && event["excludeFromSummaries"] != true);
            if index % flush_every == 0 || index + 1 == events.len() {
                let batch = processor.flush();
                sent += batch.stands_for;
                proptest::prop_assert!(batch.events.len() <= capacity + 1);
                let written: Vec<Value> = batch.events.iter().map(|it| serde_json::from_slice(it).unwrap()).collect();
                let counters = |it: &Value| -> u64 {
                    let flags = it["features"].as_object().unwrap().values();
                    flags.flat_map(|it| it["counters"].as_array().unwrap()).map(|it| it["count"].as_u64().unwrap()).sum()
                };
                counted += written.iter().filter(|it| it["kind"] == "summary").map(counters).sum::<u64>();
                let place = written.iter().position(|it| it["kind"] == "summary");
                proptest::prop_assert!(place.is_none_or(|it| it + 1 == written.len()), "the summary is last");
            }
        }
        proptest::prop_assert_eq!(lost + sent, events.len());
        proptest::prop_assert_eq!(counted, expected);
    }

    #[test]
    fn nothing_makes_it_panic(event in any_json(), schema in 1_u32..3) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let mut processor = processor(schema, 100);
        let _ = processor.takes(&event);
        processor.flushes();
    }
}
