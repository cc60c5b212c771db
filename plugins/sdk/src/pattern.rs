//! Patterns as written by operators.

use wildmatch::WildMatch;

/// Returns whether `text` matches `pattern`, in which `*` matches any text and `?` any one character. Bindings use the
/// same patterns for environments.
///
/// ```
/// use yardarm_plugin::matches;
///
/// assert!(matches("prod-*", "prod-eu"));
/// assert!(!matches("prod-?", "prod-eu"));
/// ```
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    // Most patterns are plain names or prefixes, which need no parsing.
    match pattern.find(['*', '?']) {
        None => pattern == text,
        Some(at) if &pattern[at..] == "*" => text.starts_with(&pattern[..at]),
        Some(_) => WildMatch::new(pattern).matches(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbcd", false),
            ("a*b*c", "a-b-b-c", true),
            ("*ab", "aab", true),
            ("a?c", "aéc", true),
            ("a?", "a", false),
            ("abc", "ab", false),
            ("**", "x", true),
            ("*.*", "a.b", true),
            ("a*", "ba", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_text_matches_itself_and_its_prefix_and_suffix(text in "[a-c*?]{0,8}", extra in "[a-c]{0,4}") {
            assert!(matches(&text, &text));
            assert!(matches(&format!("{text}*"), &format!("{text}{extra}")));
            assert!(matches(&format!("*{text}"), &format!("{extra}{text}")));
        }

        #[test]
        fn plain_names_and_prefixes_match_like_other_patterns(pattern in "[ab*?é]{0,5}", text in "[abé]{0,5}") {
            assert_eq!(matches(&pattern, &text), WildMatch::new(&pattern).matches(&text), "{pattern} {text}");
        }
    }
}
