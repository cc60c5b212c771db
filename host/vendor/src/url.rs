//! Percent-encoding in the forms that both vendors' protocols need.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns an address below `base` with path segments, each of which is encoded.
#[must_use]
pub fn below(base: &str, segments: &[&str]) -> String {
    let mut url = base.to_owned();
    for segment in segments {
        url.push('/');
        url.extend(utf8_percent_encode(segment, COMPONENT));
    }
    url
}

/// Returns a value for a query or a path segment.
#[must_use]
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// Decodes text in which every `%` must begin an escape, as Go demands; `None` if one does not.
#[must_use]
pub fn decoded_strictly(text: &str) -> Option<Vec<u8>> {
    let is_escape = |rest: &&str| rest.as_bytes().get(..2).is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit));
    let is_valid = text.split('%').skip(1).all(|rest| is_escape(&rest));
    is_valid.then(|| percent_decode(text.as_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cannot_leave_their_place() {
        assert_eq!(below("https://h/x", &["a b", "../c", "é~_.-"]), "https://h/x/a%20b/..%2Fc/%C3%A9~_.-");
        assert_eq!(encoded("a&b=c+d%"), "a%26b%3Dc%2Bd%25");
    }

    #[test]
    fn invalid_escapes_are_rejected() {
        for (text, decoded) in [
            ("", Some(&b""[..])),
            ("a%20b+c", Some(b"a b+c")),
            ("%ff%00", Some(b"\xff\0")),
            ("%2e%2E", Some(b"..")),
            ("%", None),
            ("a%2", None),
            ("%zz", None),
            ("%+f", None),
            ("%%20", None),
            ("%é", None),
        ] {
            assert_eq!(decoded_strictly(text).as_deref(), decoded, "{text}");
        }
    }
}
