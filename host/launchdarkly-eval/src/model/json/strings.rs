//! Strings inside JSON text: their ends and their values.

use std::borrow::Cow;

/// Only numbers that are longer, or have an exponent, may not fit a 64-bit float.
const ALWAYS_FITS: usize = 300;

/// The end of the string that starts with the quote at `start`.
pub(super) fn end(bytes: &[u8], start: usize) -> usize {
    let mut position = start + 1;
    while let Some(byte) = bytes.get(position) {
        match byte {
            b'"' => return position + 1,
            b'\\' => position += 2,
            _ => position += 1,
        }
    }
    bytes.len()
}

/// The brackets outside of strings, from `start`: where each is, and whether it opens an array or object.
///
/// Does not recurse, so depth is no problem.
fn brackets(bytes: &[u8], start: usize) -> impl Iterator<Item = (usize, bool)> {
    let mut next = start;
    std::iter::from_fn(move || {
        while let Some(byte) = bytes.get(next) {
            let position = next;
            next = if *byte == b'"' { end(bytes, position) } else { position + 1 };
            if let b'[' | b'{' | b']' | b'}' = byte {
                return Some((position, matches!(byte, b'[' | b'{')));
            }
        }
        None
    })
}

/// The end of the array or object that starts at `start`.
pub(super) fn end_of_nested(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    for (position, opens) in brackets(bytes, start) {
        depth = if opens { depth + 1 } else { depth.saturating_sub(1) };
        if depth == 0 {
            return position + 1;
        }
    }
    bytes.len()
}

/// Whether arrays and objects are nested more than `limit` levels deep.
#[must_use]
pub fn is_deeper_than(text: &str, limit: usize) -> bool {
    // Each level takes two brackets, so that most texts need not be looked at.
    if text.len() / 2 <= limit {
        return false;
    }
    let mut depth = 0_usize;
    brackets(text.as_bytes(), 0).any(|(_, opens)| {
        depth = if opens { depth + 1 } else { depth.saturating_sub(1) };
        depth > limit
    })
}

/// Whether a number does not fit a 64-bit float. The vendor's readers refuse such a text as a whole.
#[must_use]
pub fn has_number_out_of_range(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut position = 0;
    while let Some(byte) = bytes.get(position) {
        match byte {
            b'"' => position = end(bytes, position),
            b'-' | b'0'..=b'9' => {
                let is_number = |it: &u8| matches!(it, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let length = bytes[position..].iter().take_while(|it| is_number(it)).count();
                if !fits_float(&bytes[position..position + length]) {
                    return true;
                }
                position += length;
            }
            _ => position += 1,
        }
    }
    false
}

/// Whether a number fits a 64-bit float.
pub(super) fn fits_float(number: &[u8]) -> bool {
    let may_misfit = number.len() > ALWAYS_FITS || number.iter().any(|byte| matches!(byte, b'e' | b'E'));
    let value = || std::str::from_utf8(number).ok()?.parse::<f64>().ok();
    !may_misfit || value().is_some_and(f64::is_finite)
}

/// Rewrites text that the vendor's reader accepts and others reject, so that every SDK can read forwarded items, and puts
/// JSON on one line, as required on event streams.
///
/// A line break between values becomes a space, a control character within a string its escape, and the escape of half a
/// surrogate pair that of U+FFFD. Other text that is not JSON stays as it is.
#[must_use]
pub fn normalize(json: &str) -> Cow<'_, str> {
    let has_surrogates = || json.contains("\\ud") || json.contains("\\uD");
    if !json.bytes().any(|byte| byte < 0x20) && !has_surrogates() {
        return Cow::Borrowed(json);
    }
    let bytes = json.as_bytes();
    let mut line = String::with_capacity(json.len() + json.len() / 16);
    let (mut is_in_string, mut position) = (false, 0);
    // The start of what has not been copied yet.
    let mut begin = 0;
    while let Some(byte) = bytes.get(position) {
        let (replacement, length) = match byte {
            b'\\' if is_in_string => match escape(&bytes[position..]) {
                (false, length) => {
                    position += length;
                    continue;
                }
                (true, length) => (Cow::Borrowed("\\ufffd"), length),
            },
            0..0x20 if is_in_string => (Cow::Owned(format!("\\u{byte:04x}")), 1),
            b'\n' | b'\r' => (Cow::Borrowed(" "), 1),
            _ => {
                is_in_string ^= *byte == b'"';
                position += 1;
                continue;
            }
        };
        line.push_str(&json[begin..position]);
        line.push_str(&replacement);
        position += length;
        begin = position;
    }
    line.push_str(&json[begin..]);
    Cow::Owned(line)
}

/// Whether the escape at the start of `rest` is half a surrogate pair, and how many bytes it has; a pair counts as one.
fn escape(rest: &[u8]) -> (bool, usize) {
    let code = |from: usize| {
        let digits = rest.get(from..from + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    match (code(0), code(6)) {
        (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => (false, 12),
        (Some(0xd800..0xe000), _) => (true, 6),
        _ => (false, 2),
    }
}

/// The text that a JSON string stands for; `quoted` includes its quotes.
///
/// Half of a surrogate pair becomes U+FFFD, as in Go's reader.
pub(super) fn unquote(quoted: &str) -> Cow<'_, str> {
    let inner = quoted.strip_prefix('"').unwrap_or(quoted);
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut chars = escaped.chars();
        let code = chars.next();
        rest = chars.as_str();
        match code {
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let (character, after) = unicode(rest);
                text.push(character);
                rest = after;
            }
            Some(other) => text.push(other),
            None => (),
        }
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character of a `\u` escape whose digits are at the start of `rest`, with what follows.
fn unicode(rest: &str) -> (char, &str) {
    let Some((first, after)) = hex4(rest) else {
        return (char::REPLACEMENT_CHARACTER, rest);
    };
    if let Some(character) = char::from_u32(first) {
        return (character, after);
    }
    let pair = (0xd800..0xdc00).contains(&first).then(|| after.strip_prefix("\\u").and_then(hex4)).flatten();
    match pair {
        Some((second, end)) if (0xdc00..0xe000).contains(&second) => {
            let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), end)
        }
        _ => (char::REPLACEMENT_CHARACTER, after),
    }
}

fn hex4(text: &str) -> Option<(u32, &str)> {
    let digits = text.get(..4)?;
    Some((u32::from_str_radix(digits, 16).ok()?, &text[4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_normalized() {
        for (json, expected) in [
            (r#"{"a":1}"#, r#"{"a":1}"#),
            ("{\n \"a\":\r\n1}", "{  \"a\":  1}"),
            ("{\t\"a\":1}", "{\t\"a\":1}"),
            ("{\"a\tb\":\"c\nd\re\u{1}\u{1f}\"}", r#"{"a\u0009b":"c\u000ad\u000de\u0001\u001f"}"#),
            ("[\"\u{7f}é\"]", "[\"\u{7f}é\"]"),
            ("[\"\\\"\n\"]", r#"["\"\u000a"]"#),
            ("[\"\\\\\n\"]", r#"["\\\u000a"]"#),
            ("[\"\\\\\"\n]", r#"["\\" ]"#),
            // Half a pair, in every place where one can be.
            (r#"["\ud83d\ude00"]"#, r#"["\ud83d\ude00"]"#),
            (r#"["\uD83D\uDE00"]"#, r#"["\uD83D\uDE00"]"#),
            (r#"["\ud83d"]"#, r#"["\ufffd"]"#),
            (r#"["\ude00\ud83d"]"#, r#"["\ufffd\ufffd"]"#),
            (r#"["\ud83d\ud83d\ude00"]"#, r#"["\ufffd\ud83d\ude00"]"#),
            (r#"{"\ud83dx":"\u0041"}"#, r#"{"\ufffdx":"\u0041"}"#),
            (r#"["\\ud83d"]"#, r#"["\\ud83d"]"#),
            // Text that is not JSON is not repaired.
            ("[\"\\\u{1}\"]", "[\"\\\u{1}\"]"),
            (r#"["\ud8"#, r#"["\ud8"#),
            (r#"["\ud83"]"#, r#"["\ud83"]"#),
            ("[\"\\é\n\"", "[\"\\é\\u000a\""),
            ("\"\\", "\"\\"),
        ] {
            assert_eq!(normalize(json), expected, "{json:?}");
        }
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        for (text, limit, expected) in [
            ("[[[]]]", 2, true),
            ("[[[]]]", 3, false),
            ("[[],[],[[]]]", 2, true),
            (r#"{"a":{"b":[]}}"#, 2, true),
            (r#"{"a":"[[[[[[[[["}"#, 2, false),
            (r#"["\"[[[[", []]"#, 2, false),
            ("]]]]]]]][[", 2, false),
        ] {
            assert_eq!(is_deeper_than(text, limit), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_checked_outside_of_strings() {
        let long = |digits: usize| format!("[{}]", "9".repeat(digits));
        for (text, expected) in [
            ("[1,-2.5,1e308,-1E-400,0]", false),
            ("1e309", true),
            (r#"{"a":[{"b":-1e400}]}"#, true),
            (r#"{"1e400":"1e400 \" 1e400"}"#, false),
            (&long(308), false),
            (&long(310), true),
            ("", false),
        ] {
            assert_eq!(has_number_out_of_range(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_json_means_the_same_afterwards(text in "[\\[\\]{}\",:\\\\\n\r\tntfud8-9 ]{0,14}") {
            let meaning = |json: &str| serde_json::from_str::<serde_json::Value>(json).ok();
            if let Some(before) = meaning(&text) {
                proptest::prop_assert_eq!(meaning(&normalize(&text)), Some(before));
            }
        }
    }

    #[test]
    fn escapes_become_characters() {
        for (quoted, text) in [
            (r#""plain""#, "plain"),
            (r#""a\"b\\c\/d""#, "a\"b\\c/d"),
            (r#""\b\f\n\r\t""#, "\u{8}\u{c}\n\r\t"),
            (r#""\u00e9\ud83d\ude00!""#, "é😀!"),
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""\ud83dx""#, "\u{fffd}x"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\ude00""#, "\u{fffd}"),
        ] {
            assert_eq!(unquote(quoted), text, "{quoted}");
        }
    }
}
