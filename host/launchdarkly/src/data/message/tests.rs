use super::*;

fn outcome(event: &str, data: &str) -> String {
    let Ok(Message { change, refused }) = parse(event, data) else { return "restart".to_owned() };
    let change = match change {
        None => "ignored".to_owned(),
        Some(Change::Put(items)) => format!("put {} {}", items.flags.len(), items.segments.len()),
        Some(Change::Patch(item)) if item.is_deleted() => format!("delete {} {}", item.key(), item.version()),
        Some(Change::Patch(item)) => format!("patch {} {}", item.key(), item.version()),
        Some(Change::Group(_) | Change::SegmentsChanged) => "none of upstream's".to_owned(),
    };
    let refused = refused.iter().map(|it| format!(", refused {} {}", it.kind, it.key));
    change + &refused.collect::<String>()
}

#[test]
fn events_are_read_or_restart_the_stream() {
    for (row, event, data, expected) in [
        ("U012", "put", r#"{"data":{"flags":{},"segments":{}}}"#, "put 0 0"),
        ("", "put", r#"{"path":"/","data":{"flags":{"a":{"version":1}},"other":7}}"#, "put 1 0"),
        // Sets of items are objects, and a message must contain at least one kind.
        ("", "put", r#"{"data":{"flags":null}}"#, "restart"),
        ("", "put", r#"{"data":{"flags":{},"segments":null}}"#, "restart"),
        ("", "put", r#"{"data":{"flags":[],"segments":{}}}"#, "restart"),
        ("", "put", r#"{"data":{"flags":{"a":null},"segments":{}}}"#, "restart"),
        ("", "put", r#"{"data":null}"#, "restart"),
        ("", "put", r#"{"data":{}}"#, "restart"),
        ("", "put", r#"{"data":[]}"#, "restart"),
        ("", "put", r#"{"data":{"other":{}}}"#, "restart"),
        ("", "put", "null", "restart"),
        ("", "put", "", "restart"),
        ("", "put", r#"{"data":{"segments":{}}}"#, "put 0 0"),
        ("", "patch", r#"{"path":"/flags/a","data":null}"#, "restart"),
        ("", "delete", r#"{"path":"/flags/a","version":null}"#, "restart"),
        ("U022", "put", "{sorry", "restart"),
        ("U023", "put", r#"{"data":{"flags":true,"segments":{}}}"#, "restart"),
        ("", "put", r#"{"path":"/"}"#, "restart"),
        ("U013", "patch", r#"{"data":{"version":2},"path":"/flags/a"}"#, "patch a 2"),
        ("U014", "patch", r#"{"path":"/flags/a/b%2Fc","data":{"version":2}}"#, "patch a/b%2Fc 2"),
        ("U019", "patch", r#"{"path":"/flags/a","data":{"version":2,"deleted":true}}"#, "delete a 2"),
        ("U024", "patch", r#"{"path":"/flags/a","data":true}"#, "restart"),
        ("", "patch", r#"{"path":"/flags/a"}"#, "restart"),
        ("", "patch", r#"{"data":{}}"#, "restart"),
        ("U021", "patch", r#"{"path":"/cats/Jack","data":true}"#, "ignored"),
        ("", "delete", r#"{"path":"/segments/s","version":7}"#, "delete s 7"),
        ("U025", "delete", r#"{"path":"/flags/a"}"#, "restart"),
        ("", "delete", r#"{"path":"/flags/a","version":"no"}"#, "restart"),
        ("U020", "whatever", "not JSON", "ignored"),
    ] {
        assert_eq!(outcome(event, data), expected, "{row} {event} {data}");
    }
}

#[test]
fn an_item_with_an_invalid_version_is_refused_alone() {
    for (version, read) in [
        ("0", Some(0_i64)),
        ("7.0", Some(7)),
        ("1e3", Some(1000)),
        ("9007199254740991", Some(MAX_VERSION)),
        ("9007199254740992", None),
        ("9223372036854775807", None),
        ("18446744073709551616", None),
        ("1e308", None),
        ("1e999", None),
        ("-1", None),
        ("-1e308", None),
        ("1.5", None),
        ("1e-3", None),
    ] {
        let shown = |what: &str| read.map(|it| format!("{what} a {it}"));
        for (kind, path) in [("flag", "flags"), ("segment", "segments")] {
            let refused = format!("ignored, refused {kind} a");
            let patch = format!(r#"{{"path":"/{path}/a","data":{{"version":{version}}}}}"#);
            assert_eq!(outcome("patch", &patch), shown("patch").unwrap_or(refused.clone()), "{version}");
            let delete = format!(r#"{{"path":"/{path}/a","version":{version}}}"#);
            assert_eq!(outcome("delete", &delete), shown("delete").unwrap_or(refused), "{version}");
            let put = format!(r#"{{"data":{{"{path}":{{"a":{{"version":{version}}},"b":{{"version":1}}}}}}}}"#);
            let count = if read.is_some() { "2" } else { "1" };
            let counts = if kind == "flag" { format!("put {count} 0") } else { format!("put 0 {count}") };
            let refused = if read.is_some() { String::new() } else { format!(", refused {kind} a") };
            assert_eq!(outcome("put", &put), counts + &refused, "{version}");
        }
    }
    for version in [r#""3""#, "true", "[]", "{}"] {
        let put = format!(r#"{{"data":{{"flags":{{"a":{{"version":{version}}},"b":{{"version":1}}}}}}}}"#);
        assert_eq!(outcome("put", &put), "put 1 0, refused flag a", "{version}");
        let patch = format!(r#"{{"path":"/flags/a","data":{{"version":{version}}}}}"#);
        assert_eq!(outcome("patch", &patch), "restart", "U024 {version}");
    }
}

#[test]
fn depth_is_limited_item_by_item() {
    let nested = |depth: usize| format!(r#"{{"version":1,"x":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
    for (depth, is_fine) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false), (200_000, false)] {
        let patch = format!(r#"{{"path":"/flags/a","data":{}}}"#, nested(depth));
        assert_eq!(outcome("patch", &patch), if is_fine { "patch a 1" } else { "ignored, refused flag a" });
        let put = format!(r#"{{"data":{{"flags":{{"a":{},"b":{{}}}}}}}}"#, nested(depth));
        assert_eq!(outcome("put", &put), if is_fine { "put 2 0" } else { "put 1 0, refused flag a" });
    }
    // Unknown properties of the message may be of any depth.
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(outcome("put", &format!(r#"{{"x":{deep},"data":{{"flags":{{}},"y":{deep}}}}}"#)), "put 0 0");
    assert_eq!(outcome("put", &format!(r#"{{"data":{deep}}}"#)), "restart");
    assert_eq!(outcome("put", &deep), "restart");
}

#[test]
fn numbers_out_of_range_are_refused_item_by_item() {
    for (number, is_fine) in [("1e308", true), ("1e309", false), (&"9".repeat(400), false), ("-1e999", false)] {
        let item = format!(r#"{{"version":1,"variations":[{{"deep":[{number}]}}]}}"#);
        let patch = format!(r#"{{"path":"/flags/a","data":{item}}}"#);
        assert_eq!(outcome("patch", &patch), if is_fine { "patch a 1" } else { "ignored, refused flag a" });
        let put = format!(r#"{{"data":{{"flags":{{"a":{item},"b":{{}}}}}}}}"#);
        assert_eq!(outcome("put", &put), if is_fine { "put 2 0" } else { "put 1 0, refused flag a" });
    }
}

#[test]
fn control_characters_in_strings_are_passed_on_as_escapes() {
    let data = "{\"path\":\"/flags/a\",\"data\":{\"version\":2,\"description\":\"x\ty\u{1}\nz\"}}";
    let Message { change: Some(Change::Patch(item)), .. } = parse("patch", data).unwrap() else {
        panic!("not a patch")
    };
    assert_eq!(item.json(), r#"{"version":2,"description":"x\u0009y\u0001\u000az"}"#);
    let put = "{\"data\":{\"flags\":{\"a\u{1}\":{\"salt\":\"\u{0}\"}}}}";
    assert_eq!(outcome("put", put), "put 1 0");
    // Half a surrogate pair, as a key and in a path.
    assert_eq!(outcome("put", r#"{"data":{"flags":{"\ud800":{"salt":"\udc00"}}}}"#), "put 1 0");
    assert_eq!(outcome("patch", r#"{"path":"/flags/\ud800","data":{"version":2}}"#), "patch \u{fffd} 2");
}

#[test]
fn an_event_of_several_lines_is_kept_on_one() {
    let data = "{\"path\":\"/flags/a\",\r\n\"data\":{\n\"version\":2}}";
    let Message { change: Some(Change::Patch(item)), .. } = parse("patch", data).unwrap() else {
        panic!("not a patch")
    };
    assert_eq!(item.json(), "{ \"version\":2}");
}

proptest::proptest! {
    #[test]
    fn nothing_makes_it_panic(event in "(put|patch|delete)", data in "\\PC*") {
        let _ = parse(&event, &data);
    }
}
