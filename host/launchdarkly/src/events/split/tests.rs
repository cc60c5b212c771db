use yardarm_core::budget::Budget;

use super::nesting::MAX_DEPTH;
use super::*;

fn splitter() -> Splitter {
    Splitter::new(&Budget::new(1 << 30).account(), true).unwrap()
}

fn split(body: &[u8]) -> Split {
    let mut splitter = splitter();
    splitter.push(body);
    splitter.finish()
}

fn texts(split: &Split) -> Vec<String> {
    split.events.iter().map(|it| String::from_utf8(it.body.to_vec()).unwrap()).collect()
}

#[test]
fn a_post_is_split_into_events_byte_for_byte() {
    let split = split(br#" [ {"kind":"custom","creationDate":1.5,"z":1.0} , 7,"a,]\"b" ,[1, [ ]],null ] "#);
    assert_eq!((split.events[0].kind.as_deref(), split.events[0].at_ms), (Some("custom"), Some(1)));
    assert_eq!(
        texts(&split),
        [r#"{"kind":"custom","creationDate":1.5,"z":1.0}"#, "7", r#""a,]\"b""#, "[1, [ ]]", "null"]
    );
    assert!(split.lost.is_empty() && split.has_envelopes);
}

#[test]
fn a_bad_event_is_dropped_alone() {
    for (body, events, malformed) in [
        ("null", &[][..], 0),
        (" null\n", &[], 0),
        ("[]", &[], 0),
        ("\u{feff}[1]", &["1"], 0),
        ("{}", &[], 1),
        ("nul", &[], 1),
        ("not JSON at all", &[], 1),
        (" ", &[], 1),
        // Truncated.
        ("[", &[], 1),
        ("[1", &[], 1),
        ("[1,", &["1"], 1),
        (r#"[{"a":1}"#, &[r#"{"a":1}"#], 0),
        (r#"[{"a":1},{"b":"#, &[r#"{"a":1}"#], 1),
        (r#"[{"a":1},{"b":"x"#, &[r#"{"a":1}"#], 1),
        (r#"["a"#, &[], 1),
        // Errors within.
        (r#"[{"a":1},{bad},{"b":2}]"#, &[r#"{"a":1}"#, r#"{"b":2}"#], 1),
        (r#"[{"a":1},{"x":[},{"b":2}]"#, &[r#"{"a":1}"#, r#"{"b":2}"#], 1),
        (r#"[{"a":1},{"x":1]},{"b":2}]"#, &[r#"{"a":1}"#, r#"{"b":2}"#], 1),
        (r#"[{"a":1},},{"b":2}]"#, &[r#"{"a":1}"#, r#"{"b":2}"#], 1),
        (r#"[{"a":1}{"b":2},3]"#, &["3"], 1),
        ("[\"a\nb\",2]", &["2"], 1),
        (r"[01,+1,NaN,'a',1.,2]", &["2"], 5),
        // Missing elements.
        ("[1,,2]", &["1", "2"], 1),
        ("[1,]", &["1"], 1),
        ("[,1]", &["1"], 1),
        // Text after the array.
        ("[1] x y", &["1"], 1),
        ("[1][2]", &["1"], 1),
        ("[1]\r\n\t ", &["1"], 0),
    ] {
        for length in 1..=body.len() {
            let mut splitter = splitter();
            body.as_bytes().chunks(length).for_each(|piece| splitter.push(piece));
            let split = splitter.finish();
            assert_eq!(texts(&split), events, "{body} in pieces of {length}");
            assert_eq!(split.lost.get("malformed").copied().unwrap_or(0), malformed, "{body} in pieces of {length}");
        }
    }
}

#[test]
fn invalid_utf8_is_replaced_like_in_go() {
    let split = split(b"[{\"a\":\"x\xffy\xe2\x82z\"},{\"b\":2},\xff]");
    assert_eq!(texts(&split), ["{\"a\":\"x\u{fffd}y\u{fffd}\u{fffd}z\"}", r#"{"b":2}"#]);
    assert_eq!(split.lost, [("malformed", 1)].into());
    assert_eq!(object(b" {\"a\":\"\xff\"} ").as_deref(), Some("{\"a\":\"\u{fffd}\"}".as_bytes()));
    assert_eq!((object(b"[]"), object(b"{")), (None, None));
}

#[test]
fn events_beyond_limits_are_counted_and_dropped() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let long = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    let body = format!(
        "[{},{},{},{},5]",
        nested(MAX_DEPTH),
        nested(MAX_DEPTH + 1),
        long(MAX_EVENT_BYTES),
        long(MAX_EVENT_BYTES + 1)
    );
    let split_body = split(body.as_bytes());
    let lengths: Vec<_> = split_body.events.iter().map(|it| it.body.len()).collect();
    assert_eq!(lengths, [2 * MAX_DEPTH, MAX_EVENT_BYTES, 1]);
    assert_eq!(split_body.lost, [("event-too-large", 1), ("too-deep", 1)].into());
    let many = format!("[{}0]", "0,".repeat(MAX_EVENTS + 2));
    let split = split(many.as_bytes());
    assert_eq!((split.events.len(), split.lost), (MAX_EVENTS, [("too-many-events", 3)].into()));
}

#[test]
fn unmatched_brackets_take_no_time() {
    // Each of them would have to be searched for among all that are open.
    let body = format!("[{}{}", "[".repeat(MAX_DEPTH), "}".repeat(4_000_000));
    let split = split(body.as_bytes());
    assert_eq!((split.events.len(), split.lost), (0, [("malformed", 1)].into()));
}

#[test]
fn memory_is_charged_for_kept_events() {
    let account = Budget::new(100_000).account();
    let mut splitter = Splitter::new(&account, false).unwrap();
    splitter.push(br#"[{"a":1},{"b":"#);
    let used = account.used();
    assert!((7 + EVENT_COST + 5..=16 << 10).contains(&used), "an event and the beginning of another, in steps: {used}");
    splitter.push(br#"2},bad]"#);
    let split = splitter.finish();
    assert_eq!((split.events.len(), split.charge.amount()), (2, 2 * (7 + EVENT_COST)));
    assert!(!split.has_envelopes && split.events[0].kind.is_none());
    let mut splitter = Splitter::new(&account, false).unwrap();
    splitter.push(format!("[{}0]", "0,".repeat(1000)).as_bytes());
    assert!(splitter.is_out_of_memory());
    drop((splitter, split));
    assert_eq!(account.used(), 0);
}

proptest::proptest! {
    /// Arrays are split like by a JSON parser, and for any input the output is JSON, in pieces of any size.
    #[test]
    fn no_post_makes_a_difference(text in "[\\[\\]{},:\"\\\\a1 ]{0,40}", bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40), length in 1_usize..9) {
        for body in [text.as_bytes(), &bytes[..], format!("[{text}]").as_bytes()] {
            let whole = split(body);
            let mut pieces = splitter();
            body.chunks(length).for_each(|piece| pieces.push(piece));
            let pieces = pieces.finish();
            proptest::prop_assert_eq!(texts(&whole), texts(&pieces));
            proptest::prop_assert_eq!(&whole.lost, &pieces.lost);
            for event in &whole.events {
                proptest::prop_assert!(serde_json::from_slice::<serde_json::Value>(&event.body).is_ok());
            }
            if let Ok(Some(events)) = serde_json::from_slice::<Option<Vec<&RawValue>>>(body) {
                let events: Vec<_> = events.iter().map(|it| it.get().to_owned()).collect();
                proptest::prop_assert_eq!((texts(&whole), whole.lost.len()), (events, 0));
            }
        }
    }
}
