use super::*;

#[test]
fn texts_are_those_of_go() {
    for (text, expected) in [
        ("", "unexpected end of JSON input"),
        ("   ", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        (r#"{"a":1"#, "unexpected end of JSON input"),
        (r#""a"#, "unexpected end of JSON input"),
        ("tru", "unexpected end of JSON input"),
        ("-", "unexpected end of JSON input"),
        ("1.", "unexpected end of JSON input"),
        ("everything", "invalid character 'e' looking for beginning of value"),
        ("not json", "invalid character 'o' in literal null (expecting 'u')"),
        ("{} true", "invalid character 't' after top-level value"),
        ("{}}", "invalid character '}' after top-level value"),
        ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
        (r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
        (r#"{"a" 1}"#, "invalid character '1' after object key"),
        (r#"{"a":1 "b":2}"#, "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("[1}", "invalid character '}' after array element"),
        ("\"a\nb\"", "invalid character '\\n' in string literal"),
        (r#""\x""#, "invalid character 'x' in string escape code"),
        (r#""\u00g0""#, "invalid character 'g' in \\u hexadecimal character escape"),
        ("-x", "invalid character 'x' in numeric literal"),
        ("01", "invalid character '1' after top-level value"),
        ("1.x", "invalid character 'x' after decimal point in numeric literal"),
        ("1ex", "invalid character 'x' in exponent of numeric literal"),
        ("'a'", "invalid character '\\'' looking for beginning of value"),
        ("\u{e9}", "invalid character 'Ã' looking for beginning of value"),
    ] {
        let error = check(text.as_bytes()).expect_err(text);
        assert_eq!(error.to_string(), expected, "{text}");
    }
}

#[test]
fn json_passes() {
    for text in ["null", " [ ] ", "{}", r#"{"a":[1,-0.5e+3,{"b":"\ud800\n"}],"c":false}"#, "0", "\"\u{7f}é\""] {
        assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
    }
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(check(nested(MAX_DEPTH).as_bytes()), Ok(()));
    assert_eq!(check(nested(MAX_DEPTH + 1).as_bytes()), Err(SyntaxError::TooDeep));
}

#[test]
fn numbers_fit_or_are_shown() {
    let long = format!("1{}", "0".repeat(400));
    for (text, position) in [
        ("1e308", None),
        ("1e-999", None),
        ("-0", None),
        ("12345678901234567890123", None),
        ("1e309", Some(0)),
        (" -1e400", Some(0)),
        (r#"  {"a":[1,1E+400,1e500]}"#, Some(8)),
        (long.as_str(), Some(0)),
    ] {
        let expected = position.map_or(Ok(()), |position| Err(SyntaxError::NumberRange { position }));
        assert_eq!(check(text.as_bytes()), expected, "{text}");
    }
    // A syntax error is reported before a number out of range.
    assert_eq!(check(b"[1e999,]").unwrap_err().to_string(), "invalid character ']' looking for beginning of value");
}

proptest::proptest! {
    #[test]
    fn agrees_with_serde_json(text in "[\\[\\]{}\",:\\\\ntfalserue0-9 .eE+-]{0,12}") {
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        let ours = matches!(check(text.as_bytes()), Ok(()) | Err(SyntaxError::NumberRange { .. }));
        proptest::prop_assert_eq!(ours, theirs);
    }
}
