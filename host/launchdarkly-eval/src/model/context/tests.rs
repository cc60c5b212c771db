use proptest::prelude::*;

use super::*;

fn parse(json: &str) -> Context {
    Context::parse(json.as_bytes()).expect(json)
}

fn written(json: &str) -> String {
    let mut out = Vec::new();
    parse(json).write_json(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn errors_have_the_texts_of_the_vendors_relay() {
    for (json, expected) in [
        ("", "unexpected end of JSON input"),
        (r#"{"key":"a""#, "unexpected end of JSON input"),
        ("everything", "invalid character 'e' looking for beginning of value"),
        ("{} t", "invalid character 't' after top-level value"),
        ("[]", "expected object, got array at position 0"),
        ("  null", "expected object, got null at position 0"),
        ("\"x\"", "expected object, got string at position 0"),
        ("true", "expected object, got boolean at position 0"),
        (r#"{"key":3}"#, "expected string, got number at position 7"),
        (r#"{"key":null}"#, "expected string, got null at position 7"),
        (r#"{"kind":3}"#, "expected string, got number at position 8"),
        (r#"{"kind":"user","key":3}"#, "expected string or null, got number at position 21"),
        (r#"{"kind":"user","key":"u","anonymous":null}"#, "expected boolean, got null at position 37"),
        (r#"{"kind":"user","key":"u","name":1}"#, "expected string or null, got number at position 32"),
        (r#"{"kind":"user","key":"u","_meta":"x"}"#, "expected object or null, got string at position 33"),
        (
            r#"{"kind":"user","key":"u","_meta":{"privateAttributes":[1]}}"#,
            "expected string, got number at position 55",
        ),
        (
            r#"{"kind":"user","key":"u","_meta":{"privateAttributes":1}}"#,
            "expected array or null, got number at position 54",
        ),
        (r#"{"key":"u","anonymous":"yes"}"#, "expected boolean or null, got string at position 23"),
        (r#"{"key":"u","email":1}"#, "expected string or null, got number at position 19"),
        (r#"{"key":"u","custom":[]}"#, "expected object or null, got array at position 20"),
        (r#"{"name":"x"}"#, "\"key\" property not found in JSON context object"),
        (r#"{"kind":"user"}"#, "\"key\" property not found in JSON context object"),
        (r#"{"kind":"org","key":""}"#, "context key must not be empty"),
        (r#"{"kind":"user","key":null}"#, "context key must not be null"),
        (r#"{"kind":"","key":"a"}"#, "context kind cannot be empty"),
        (r#"{"kind":"kind","key":"a"}"#, "\"kind\" is not a valid context kind"),
        (r#"{"kind":"a b","key":"a"}"#, "context kind contains disallowed characters"),
        (r#"{"kind":"ö","key":"a"}"#, "context kind contains disallowed characters"),
        (r#"{"kind":"multi"}"#, "multi-context must contain at least one kind"),
        (r#"{"kind":"multi","multi":{"key":"o"}}"#, "single context cannot have the kind \"multi\""),
        (r#"{"kind":"multi","org":3}"#, "expected object, got number at position 22"),
        (r#"{"kind":"multi","org":{}}"#, "\"key\" property not found in JSON context object"),
        (
            r#"{"kind":"multi","user":{"key":"a","kind":"org"},"org":{"key":"b"}}"#,
            "multi-context cannot have same kind more than once",
        ),
    ] {
        assert_eq!(Context::parse(json.as_bytes()).expect_err(json).to_string(), expected, "{json}");
    }
}

#[test]
fn old_users_become_contexts() {
    assert_eq!(
        written(
            r#"{"key":"u","name":"N","email":"e","custom":{"name":"X","tier":3,"gone":null},
                "privateAttributeNames":["/tier","b"],"secondary":"z"}"#
        ),
        r#"{"kind":"user","key":"u","name":"N","email":"e","tier":3,"_meta":{"privateAttributes":["/~1tier","b"]}}"#
    );
    // `custom` wins at any position.
    assert_eq!(
        written(r#"{"custom":{"email":"b"},"key":"u","email":"a"}"#),
        r#"{"kind":"user","key":"u","email":"b"}"#
    );
    let user = parse(r#"{"key":"u","secondary":"z"}"#);
    assert_eq!(user.parts()[0].secondary(), Some("z"));
    assert_eq!(parse(r#"{"key":"u","secondary":null}"#).parts()[0].secondary(), None);
    assert_eq!(parse(r#"{"kind":"user","key":"u","_meta":{"secondary":"z"}}"#).parts()[0].secondary(), None);
}

#[test]
fn only_an_old_user_may_have_an_empty_key() {
    assert!(parse(r#"{"key":""}"#).has_empty_key());
    assert!(!parse(r#"{"key":"a"}"#).has_empty_key());
}

#[test]
fn a_multi_context_is_sorted_and_one_of_one_collapses() {
    assert_eq!(
        written(r#"{"kind":"multi","user":{"key":"1","anonymous":true},"org":{"key":"2","a":[1,{"b":null}]}}"#),
        r#"{"kind":"multi","org":{"key":"2","a":[1,{"b":null}]},"user":{"key":"1","anonymous":true}}"#
    );
    assert_eq!(written(r#"{"org":{"key":"2"},"kind":"multi"}"#), r#"{"kind":"org","key":"2"}"#);
}

#[test]
fn of_equal_names_the_last_counts_and_null_removes() {
    assert_eq!(
        written(r#"{"kind":"user","key":"u","a":1,"b":1,"a":2,"b":null,"":3}"#),
        r#"{"kind":"user","key":"u","a":2}"#
    );
}

#[test]
fn references_lead_to_values() {
    let context = parse(
        r#"{"kind":"org","key":"k","name":"n","a/b":1,"address":{"city":"rome","none":null,"list":[{"x":1}]},
            "_meta":{"privateAttributes":["x"]}}"#,
    );
    let part = context.part("org").expect("an org");
    let get = |text: &str| {
        let mut out = Vec::new();
        part.get(&Reference::parse(text).expect(text))?.write(&mut out);
        String::from_utf8(out).ok()
    };
    assert_eq!(get("key").as_deref(), Some("\"k\""));
    assert_eq!(get("/kind").as_deref(), Some("\"org\""));
    assert_eq!(get("name").as_deref(), Some("\"n\""));
    assert_eq!(get("anonymous").as_deref(), Some("false"));
    assert_eq!(get("/a~1b").as_deref(), Some("1"));
    assert_eq!(get("/address/city").as_deref(), Some("\"rome\""));
    for nothing in ["/address/none", "/address/zip", "/address/city/x", "/address/list/x", "/key/x", "_meta", "zip"] {
        assert_eq!(get(nothing), None, "{nothing}");
    }
}

#[test]
fn canonical_keys() {
    for (json, key) in [
        (r#"{"key":"a:b"}"#, "a:b"),
        (r#"{"kind":"user","key":"a:b%c"}"#, "a:b%c"),
        (r#"{"kind":"org","key":"50%:x"}"#, "org:50%25%3Ax"),
        (r#"{"kind":"multi","user":{"key":"a:b"},"org":{"key":"50%"}}"#, "org:50%25:user:a%3Ab"),
    ] {
        assert_eq!(parse(json).canonical_key(), key, "{json}");
    }
}

#[test]
fn secure_mode_hashes() {
    let sdk_key = "sdk-01234567-89ab-cdef-0123-456789abcdef";
    for (json, hash) in [
        (r#"{"kind":"user","key":"user-key-123"}"#, "73df666a13f2c474e50aa34ca5a761e89abb737fb139ff65fdde7fa85c9dcacd"),
        (
            r#"{"kind":"multi","user":{"key":"a:b"},"org":{"key":"50%"}}"#,
            "548e8dcf0f0ad57de83e13989fbc009bdaf29e4841de97dd343b1ef6cbae51b0",
        ),
    ] {
        let context = parse(json);
        assert_eq!(context.secure_mode_hash(sdk_key), hash);
        assert!(context.verify_hash(sdk_key, hash));
        for wrong in ["", &hash[1..], &hash.to_uppercase(), &format!("{hash}0")] {
            assert!(!context.verify_hash(sdk_key, wrong), "{wrong}");
        }
    }
}

#[test]
fn bytes_that_are_not_utf8_are_replaced() {
    let context = Context::parse(b"{\"key\":\"a\xff\"}").expect("a user");
    assert_eq!(context.canonical_key(), "a\u{fffd}");
}

#[test]
fn numbers_fit_wherever_they_stand() {
    for json in [r#"{"key":"u","custom":{"a":1e999}}"#, r#"{"key":"u","ignored":[1e999]}"#] {
        assert!(
            matches!(Context::parse(json.as_bytes()), Err(ContextError::Syntax(SyntaxError::NumberRange { .. }))),
            "{json}"
        );
    }
}

#[test]
fn deep_contexts_are_contexts() {
    let deep = format!(r#"{{"kind":"user","key":"u","a":{}{}}}"#, "[".repeat(9_000), "]".repeat(9_000));
    assert_eq!(parse(&deep).canonical_key(), "u");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Context::parse(&bytes);
    }

    #[test]
    fn what_is_written_reads_back(name in "\\PC{0,4}", text in "\\PC{0,6}", number: f64, nested: bool) {
        let value = if nested { format!("{{\"x\":[{number:e}]}}") } else { serde_json::to_string(&text).expect("JSON") };
        let name = serde_json::to_string(&format!("x{name}")).expect("JSON");
        let context = parse(&format!(r#"{{"kind":"multi","user":{{"key":"u",{name}:{value}}},"org":{{"key":"o"}}}}"#));
        let mut out = Vec::new();
        context.write_json(&mut out);
        prop_assert_eq!(Context::parse(&out).expect("what we wrote"), context);
    }
}
