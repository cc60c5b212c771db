//! Paths as the reference's router handles them: decoded, cleaned, and encoded again for redirects.
//!
//! All functions work on bytes, because escapes need not be UTF-8.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use yardarm_vendor::url;

/// Characters that Go escapes in paths.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// The decoded path; `None` if it has an invalid escape.
pub(super) fn decoded(path: &str) -> Option<Cow<'_, [u8]>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path.as_bytes()));
    }
    url::decoded_strictly(path).map(Cow::Owned)
}

/// The path without `//`, `/./` and `/../`; `None` if it has none of them.
pub(super) fn cleaned(path: &[u8]) -> Option<Vec<u8>> {
    let segments = || path.split(|byte| *byte == b'/');
    // Empty segments are allowed in front, where every path has one, and at the end.
    let inner = path.strip_prefix(b"/").map(|it| it.strip_suffix(b"/").unwrap_or(it));
    let is_clean = match inner {
        None => false,
        Some(b"") => path == b"/",
        Some(inner) => inner.split(|byte| *byte == b'/').all(|it| !matches!(it, b"" | b"." | b"..")),
    };
    if is_clean {
        return None;
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in segments() {
        match segment {
            b"" | b"." => (),
            b".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let mut clean = Vec::with_capacity(path.len() + 1);
    for segment in &kept {
        clean.push(b'/');
        clean.extend_from_slice(segment);
    }
    if kept.is_empty() || path.ends_with(b"/") {
        clean.push(b'/');
    }
    Some(clean)
}

/// The path with the characters escaped that Go escapes in paths.
pub(super) fn escaped(path: &[u8]) -> String {
    percent_encode(path, PATH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unclean_paths_are_cleaned_like_in_the_reference() {
        // L010 and L011.
        for (path, clean) in [
            ("/", None),
            ("/all", None),
            ("/all/", None),
            ("/a.b/..c", None),
            ("//", Some("/")),
            ("//all", Some("/all")),
            ("/x/../status", Some("/status")),
            ("/./all", Some("/all")),
            ("/all/.", Some("/all")),
            ("/all/..", Some("/")),
            ("/../..", Some("/")),
            ("/a//b/", Some("/a/b/")),
            ("/a//", Some("/a/")),
            ("*", Some("/*")),
            ("", Some("/")),
        ] {
            assert_eq!(cleaned(path.as_bytes()).as_deref(), clean.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn escapes_are_read_or_refused() {
        for (path, text) in [
            ("/a%20b", Some(&b"/a b"[..])),
            ("/%2e%2E/%2f+", Some(b"/..//+")),
            ("/%ff%00", Some(b"/\xff\0")),
            ("/x/%%%", None),
            ("/x%2", None),
            ("/%zz", None),
            ("/%+f", None),
        ] {
            assert_eq!(decoded(path).as_deref(), text, "{path}");
        }
    }

    #[test]
    fn characters_are_escaped_like_in_go() {
        assert_eq!(
            escaped(b"/a-b_c.d~$&+,:;=@/ !'()*?#%[]\xff"),
            "/a-b_c.d~$&+,:;=@/%20%21%27%28%29%2A%3F%23%25%5B%5D%FF"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_path_makes_it_panic_and_a_cleaned_one_is_clean(path in "\\PC*") {
            if let Some(path) = decoded(&path) {
                let again = escaped(&path);
                proptest::prop_assert!(decoded(&again).is_some_and(|it| it == path));
            }
            if let Some(clean) = cleaned(path.as_bytes()) {
                proptest::prop_assert_eq!(cleaned(&clean), None);
            }
        }
    }
}
