//! Strings inside JSON text: where they end, what they mean.

use std::borrow::Cow;

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

/// The end of the array or object that starts at `start`.
///
/// Does not recurse, so depth costs nothing.
pub(super) fn end_of_nested(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0usize;
    let mut position = start;
    while let Some(byte) = bytes.get(position) {
        match byte {
            b'"' => {
                position = end(bytes, position);
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => (),
        }
        position += 1;
        if depth == 0 {
            return position;
        }
    }
    bytes.len()
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
