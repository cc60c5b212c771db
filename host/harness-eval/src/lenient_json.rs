//! Reads JSON as Go's decoders, and so the vendor's relay, do: text that is no Unicode is replaced, not rejected.
//!
//! Bytes that are no UTF-8 and halves of surrogate pairs (`\ud83d` alone) become U+FFFD. Control characters inside strings
//! are read as if they were escaped. Of several properties with one name the last counts.

use std::borrow::Cow;
use std::fmt::Write;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Levels of arrays and objects that are read. `serde_json` rejects more than 127.
const MAX_DEPTH: usize = 100;

/// Returns `bytes` as text that `serde_json` does not reject for its characters; borrowed where nothing had to be replaced.
#[must_use]
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => match repaired(text) {
            None => Cow::Borrowed(text),
            Some(repaired) => Cow::Owned(repaired),
        },
        Cow::Owned(text) => Cow::Owned(repaired(&text).unwrap_or(text)),
    }
}

/// Reads a value. Arrays and objects below the hundredth level become `null`, so that only they are lost.
///
/// # Errors
/// When `bytes` are no JSON, or not of this type.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let text = text(bytes);
    let value: Value = match shallow(&text) {
        None => serde_json::from_str(&text)?,
        Some(shallow) => serde_json::from_str(&shallow)?,
    };
    // Read by way of a value, because derived readers reject properties that occur twice.
    T::deserialize(value)
}

/// Returns the text with `null` in place of values that are nested too deeply; `None` if there are none, or if brackets do not
/// match, which the JSON reader reports.
fn shallow(text: &str) -> Option<String> {
    let mut out: Option<String> = None;
    let mut depth = 0_usize;
    // Up to here everything has been copied, if anything has been replaced.
    let mut copied = 0;
    let mut is_in_string = false;
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_string => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            _ if is_in_string => (),
            b'[' | b'{' => {
                depth += 1;
                if depth == MAX_DEPTH + 1 {
                    let out = out.get_or_insert_with(|| String::with_capacity(text.len()));
                    out.push_str(&text[copied..at]);
                    out.push_str("null");
                }
            }
            b']' | b'}' => {
                if depth == MAX_DEPTH + 1 {
                    copied = at + 1;
                }
                depth = depth.checked_sub(1)?;
            }
            _ => (),
        }
    }
    let mut out = out.filter(|_| depth == 0)?;
    out.push_str(&text[copied..]);
    Some(out)
}

/// Returns the text with every defect replaced; `None` if there is none.
fn repaired(text: &str) -> Option<String> {
    let may_have_defects = text.contains("\\u") || text.bytes().any(|byte| byte < 0x20);
    if !may_have_defects {
        return None;
    }
    let bytes = text.as_bytes();
    let mut out: Option<String> = None;
    // Up to here everything has been copied, if anything has been replaced.
    let mut copied = 0;
    let mut replace = |from: usize, to: usize, with: std::fmt::Arguments<'_>| {
        let out = out.get_or_insert_with(|| String::with_capacity(text.len() + 16));
        out.push_str(&text[copied..from]);
        // Writing to a string cannot fail.
        let _ = out.write_fmt(with);
        copied = to;
    };
    let mut is_in_string = false;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => is_in_string = !is_in_string,
            b'\\' if is_in_string => match code_unit(bytes, at) {
                None => at += 1,
                Some(0xd800..=0xdbff) if matches!(code_unit(bytes, at + 6), Some(0xdc00..=0xdfff)) => at += 11,
                Some(0xd800..=0xdfff) => {
                    replace(at, at + 6, format_args!("\\ufffd"));
                    at += 5;
                }
                Some(_) => at += 5,
            },
            0..0x20 if is_in_string => replace(at, at + 1, format_args!("\\u{byte:04x}")),
            _ => (),
        }
        at += 1;
    }
    let mut out = out?;
    out.push_str(&text[copied..]);
    Some(out)
}

/// Reads the code unit of an escape such as `\ud83d` that begins at `at`.
fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?)).map(|unit| unit as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn text_that_is_no_unicode_is_replaced() {
        for (bytes, expected) in [
            (&br#""\ud83d""#[..], json!("\u{fffd}")),
            (br#""\uD83D""#, json!("\u{fffd}")),
            (br#""\ude00 x""#, json!("\u{fffd} x")),
            (br#""\ud83d\ud83d\ude00""#, json!("\u{fffd}😀")),
            (br#""\ud83d\ude00\ude00""#, json!("😀\u{fffd}")),
            (br#""\ud83d\n""#, json!("\u{fffd}\n")),
            (br#""\ud83dx""#, json!("\u{fffd}x")),
            (br#""\\ud83d""#, json!("\\ud83d")),
            (br#""\\\ud83d""#, json!("\\\u{fffd}")),
            (br#""\"\ud83d""#, json!("\"\u{fffd}")),
            (br#"{"\udead":["\udeadx",1]}"#, json!({"\u{fffd}": ["\u{fffd}x", 1]})),
            (b"\"a\xffb\xf0\x9f\"", json!("a\u{fffd}b\u{fffd}")),
            (b"\"\xed\xa0\xbd\"", json!("\u{fffd}\u{fffd}\u{fffd}")),
            (b"[\n\"a\tb\x01\"\n]", json!(["a\tb\u{1}"])),
        ] {
            assert_eq!(from_slice::<Value>(bytes).unwrap(), expected, "{}", String::from_utf8_lossy(bytes));
        }
        for bytes in [&br#""\ud8""#[..], br#""\u""#, br#""\"#, b"\"", b"{", b"", b"1 2", b"\x01", br#""\ud83""#] {
            assert!(from_slice::<Value>(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn only_deep_values_become_null() {
        let nested = |levels: usize, inner: &str| format!("{}{inner}{}", "[".repeat(levels), "]".repeat(levels));
        for levels in [1, 98, 99, 100, 127, 128, 10_000, 1_000_000] {
            let text = format!(r#"{{"a":"]}}\"[","deep":{},"b":[{{"c":1}}]}}"#, nested(levels, r#"{"x":"\\"}"#));
            let read: Value = from_slice(text.as_bytes()).unwrap();
            assert_eq!((&read["a"], &read["b"]), (&json!("]}\"["), &json!([{"c": 1}])), "{levels}");
            let expected =
                if levels < MAX_DEPTH { nested(levels, r#"{"x":"\\"}"#) } else { nested(MAX_DEPTH - 1, "null") };
            let expected = if levels == MAX_DEPTH - 1 { nested(levels, "null") } else { expected };
            assert_eq!(read["deep"].to_string(), expected, "{levels}");
        }
        for text in ["[".repeat(1000), format!("{}]", nested(1000, "1")), format!("{}]{{]", "[".repeat(200))] {
            assert!(from_slice::<Value>(text.as_bytes()).is_err(), "{text:.40}");
        }
    }

    #[test]
    fn the_last_of_several_properties_counts() {
        #[derive(serde::Deserialize)]
        struct Named {
            name: String,
        }
        let read: Named = from_slice(br#"{"name":7,"name":"x","name":"y"}"#).unwrap();
        assert_eq!(read.name, "y");
    }

    #[test]
    fn good_text_is_not_copied() {
        for good in ["{\"a\": \"\\ud83d\\ude00\\u00e9\"}\n", "{\n \"a\": 1}", "", "[]"] {
            assert!(matches!(text(good.as_bytes()), Cow::Borrowed(it) if it == good), "{good}");
        }
    }

    proptest! {
        #[test]
        fn valid_json_stays_as_it_is(strings in proptest::collection::vec(any::<String>(), 0..5)) {
            let good = json!(strings).to_string();
            prop_assert_eq!(text(good.as_bytes()), good.as_str());
        }

        #[test]
        fn every_string_can_be_read(parts in proptest::collection::vec("\\\\u[dD][89abAB][0-9a-f]{2}|[a-z\\x00-\\x1f]|\\\\u[dD][c-fC-F][0-9a-f]{2}", 0..12)) {
            let json = format!("[\"{}\"]", parts.concat());
            prop_assert!(from_slice::<Vec<String>>(json.as_bytes()).is_ok(), "{}", json);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = from_slice::<Value>(&bytes);
        }
    }
}
