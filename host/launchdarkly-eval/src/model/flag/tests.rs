use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

fn parse(json: &str) -> Result<Flag, Malformed> {
    Flag::parse("f", &RawValue::from_string(json.to_owned()).expect("valid JSON"))
}

#[test]
fn keeps_its_bytes_its_key_and_its_variations() {
    let json = r#"{"key":"f" , "version":33333.9,"variations":[ {"a": 1.0} ,"x",null],"name":"unknown here"}"#;
    let flag = parse(json).expect("a flag");
    assert_eq!(flag.json(), json.as_bytes());
    assert_eq!((&**flag.key(), flag.version()), ("f", 33333));
    assert_eq!(flag.variations().collect::<Vec<_>>(), [&br#"{"a": 1.0}"#[..], br#""x""#, b"null"]);
    assert_eq!(flag.variation(3), None);
}

#[test]
fn null_is_the_same_as_absent() {
    let properties = [
        "key",
        "version",
        "deleted",
        "on",
        "prerequisites",
        "targets",
        "contextTargets",
        "rules",
        "fallthrough",
        "offVariation",
        "variations",
        "clientSideAvailability",
        "clientSide",
        "salt",
        "trackEvents",
        "trackEventsFallthrough",
        "debugEventsUntilDate",
        "samplingRatio",
        "excludeFromSummaries",
        "migration",
    ];
    for name in properties {
        let flag = parse(&format!(r#"{{"{name}":null}}"#)).expect(name);
        let head = (flag.name(), flag.version(), flag.is_deleted(), flag.has_valid_version());
        assert_eq!(head, ("", 0, false, true), "{name}");
        assert_eq!(format!("{:?}", flag.body()), format!("{:?}", FlagBody::default()), "{name}");
    }
}

#[test]
fn a_wrong_type_is_named() {
    for (json, text) in [
        ("3", "expected object, got number"),
        (r#"{"on":"yes"}"#, "property `on`: expected boolean, got string"),
        (r#"{"prerequisites":[{"key":1}]}"#, "property `prerequisites[0].key`: expected string, got number"),
        (r#"{"targets":{}}"#, "property `targets`: expected array, got object"),
        (r#"{"targets":[{"values":["a",2]}]}"#, "property `targets[0].values[1]`: expected string, got number"),
        (r#"{"rules":[{},{"rollout":3}]}"#, "property `rules[1].rollout`: expected object, got number"),
        (
            r#"{"fallthrough":{"rollout":{"variations":[{"weight":"1"}]}}}"#,
            "property `fallthrough.rollout.variations[0].weight`: expected number, got string",
        ),
        (r#"{"migration":{"checkRatio":""}}"#, "property `migration.checkRatio`: expected number, got string"),
        (r#"{"samplingRatio":true}"#, "property `samplingRatio`: expected number, got boolean"),
    ] {
        assert_eq!(parse(json).expect_err(json).to_string(), text);
    }
}

#[test]
fn visibility_follows_the_newer_property_and_then_the_older() {
    for (json, mobile, browser) in [
        ("{}", true, false),
        (r#"{"clientSide":true}"#, true, true),
        (r#"{"clientSideAvailability":{}}"#, false, false),
        (r#"{"clientSide":true,"clientSideAvailability":{"usingMobileKey":true}}"#, true, false),
        (r#"{"clientSideAvailability":{"usingEnvironmentId":true}}"#, false, true),
    ] {
        let flag = parse(json).expect(json);
        assert_eq!(flag.visible_to(Audience::Mobile), mobile, "{json}");
        assert_eq!(flag.visible_to(Audience::Browser), browser, "{json}");
        assert!(flag.visible_to(Audience::Server));
    }
}

#[test]
fn tombstones_are_not_visible() {
    for flag in [parse(r#"{"deleted":true,"version":4}"#).expect("a tombstone"), Flag::tombstone("f", 4)] {
        assert!(flag.is_deleted());
        assert_eq!(flag.version(), 4);
        for audience in [Audience::Server, Audience::Mobile, Audience::Browser] {
            assert!(!flag.visible_to(audience));
        }
    }
}

#[test]
fn a_debugging_date_of_zero_is_none() {
    assert_eq!(parse(r#"{"debugEventsUntilDate":0}"#).expect("a flag").debug_events_until_date(), None);
    let flag = parse(r#"{"debugEventsUntilDate":1.7e12}"#).expect("a flag");
    assert_eq!(flag.debug_events_until_date(), Some(1_700_000_000_000));
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused(json in "\\{(\"(on|rules|targets|variations|fallthrough)\":(\\[|\\{|\\]|\\}|1|\"|true|null|,|:)*,?)*\\}") {
        if let Ok(raw) = RawValue::from_string(json) {
            let _ = Flag::parse("f", &raw);
        }
    }
}
