use super::*;

fn found(pattern: &str, text: &str) -> bool {
    Pattern::new(pattern).is_found_in(text)
}

#[test]
fn both_dialects_share_most_syntax() {
    for (pattern, text, expected) in [
        ("^a$", "a", true),
        ("^a$", "a\n", false),
        (".", "\n", false),
        ("(?s).", "\n", true),
        ("(?i)ab+c?", "xABB", true),
        ("(?i:a)b", "Ab", true),
        ("(?i:a)b", "AB", false),
        ("(?m)^b$", "a\nb\nc", true),
        ("(?U)a+", "aa", true),
        ("(a|b){2,3}?", "ab", true),
        ("", "x", true),
        ("a||b", "zzz", true),
        (r"\pL", "é", true),
        (r"\p{Greek}", "α", true),
        (r"\P{Greek}", "α", false),
        ("[[:alpha:]]", "b", true),
        ("[^[:^digit:]]", "5", true),
        (r"\x{41}\x42", "AB", true),
        (r"\Aab\z", "ab", true),
        ("é+😀", "éé😀", true),
        ("[é-ü]", "ö", true),
        ("a b#c", "a b#c", true),
        ("[ #]", "#", true),
    ] {
        assert_eq!(found(pattern, text), expected, "{pattern} on {text:?}");
    }
}

#[test]
fn perl_classes_are_ascii() {
    for (pattern, text, expected) in [
        (r"\d+", "٣", false),
        (r"\D", "٣", true),
        (r"\w", "é", false),
        (r"[\w]", "é", false),
        (r"[\W]", "é", true),
        (r"[^\w]", "é", true),
        (r"\s", "\u{a0}", false),
        (r"\s", "\u{b}", false),
        (r"[\S]", "\u{a0}", true),
        (r"é\b", "éa", true),
        (r"é\b", "é ", false),
        (r"é\B", "é ", true),
        (r"[\d-z]", "-", true),
    ] {
        assert_eq!(found(pattern, text), expected, "{pattern} on {text:?}");
    }
}

#[test]
fn quoted_text_and_escaped_punctuation_are_literal() {
    for (pattern, text, expected) in [
        (r"\Qa.b\E", "a.b", true),
        (r"\Qa.b\E", "axb", false),
        (r"\Qa.b\E+", "a.bbb", true),
        (r"^\Q[x", "[x", true),
        (r"\Q\E", "", true),
        (r"\_\-\/\<\>", "_-/<>", true),
        (r"\b{start}", "a{start}", true),
        (r"\101\060", "A0", true),
        (r"\0", "\0", true),
        (r"\a\f\v", "\u{7}\u{c}\u{b}", true),
    ] {
        assert_eq!(found(pattern, text), expected, "{pattern} on {text:?}");
    }
}

#[test]
fn braces_that_repeat_nothing_are_literal() {
    for (pattern, text, expected) in [
        ("{", "{", true),
        ("a{x", "a{x", true),
        ("a{,2}", "a{,2}", true),
        ("a{,2}", "aa", false),
        ("a{01}", "a{01}", true),
        ("}", "}", true),
        ("^a{2}$", "aa", true),
        ("{{}}", "{{}}", true),
    ] {
        assert_eq!(found(pattern, text), expected, "{pattern} on {text:?}");
    }
}

#[test]
fn classes_are_flat() {
    for (pattern, text, expected) in [
        ("[a&&b]", "&", true),
        ("[a&&b]", "b", true),
        (r"[\w&&[^a]]", "b", false),
        (r"[\w&&[^a]]", "b]", true),
        ("[~~]", "~", true),
        ("[--a]", "-", true),
        ("[+--]", ",", true),
        ("[[a]", "[", true),
        ("[]a]", "]", true),
        ("[^]a]", "]", false),
        ("[a-]", "-", true),
        ("[a^]", "^", true),
        (r"[\n\x41\]]", "]", true),
        (r"[\p{Greek}x]", "α", true),
        (r"[\p{^Greek}]", "α", false),
        ("[[:alpha]", ":", true),
    ] {
        assert_eq!(found(pattern, text), expected, "{pattern} on {text:?}");
    }
}

#[test]
fn patterns_that_go_rejects_never_match() {
    for (pattern, text) in [
        ("(?=x)", "x"),
        ("(?!x)", "a"),
        ("(?<=x)", "x"),
        ("(?P=n)", "x"),
        ("(?x)a", "a"),
        ("(?i-)a", "a"),
        ("(?P<>a)", "a"),
        ("(?P<n>a)(?P<n>b)", "ab"),
        (r"(a)\1", "aa"),
        (r"\8", "8"),
        (r"\Z", ""),
        (r"\y", "y"),
        (r"\é", "é"),
        ("a**", "a"),
        ("x*+", "x"),
        ("a{2}{3}", "aaaaaa"),
        ("a+??", "a"),
        ("*a", "a"),
        ("(*)", "*"),
        ("a{1001}", "a"),
        ("a{2,1}", "aa"),
        ("(a{100}){100}", "a"),
        ("(?:(a{40}b){40})", "a"),
        ("a{99999999999}", "a"),
        ("[[:word:]", "a"),
        ("[[:foo:]]", "f"),
        ("[b-a]", "a"),
        ("[a--]", "a"),
        (r"[a-\d]", "a"),
        (r"[\b]", "b"),
        (r"\p{alpha}", "a"),
        (r"\pX", "X"),
        ("[a", "a"),
        ("(a", "a"),
        ("a)", "a"),
        ("a\\", "a"),
        (r"\x{110000}", "a"),
        (r"\x4", "\u{4}"),
    ] {
        assert!(!found(pattern, text), "{pattern}");
    }
}

#[test]
fn named_groups_and_nested_repetitions_within_limits() {
    for (pattern, text) in [
        ("(?P<year>[0-9]{4})-(?<m>..)", "2017-12"),
        ("(?P<1a>x)", "x"),
        ("^(a{2}){2}$", "aaaa"),
        ("(a*)*b", "b"),
        ("(a{1000})?", ""),
        ("(?)a", "a"),
    ] {
        assert!(found(pattern, text), "{pattern}");
    }
}

proptest::proptest! {
    #[test]
    fn never_panics(pattern in "[\\[\\](){}?*+|.^$\\\\QEdwpPLx:a<>,0-9é-]{0,16}|\\PC*") {
        if let Some(translated) = translate(&pattern) {
            let _ = Regex::new(&translated);
        }
    }

    #[test]
    fn a_quoted_text_matches_itself(text in "\\PC{0,20}") {
        let quoted = format!("^{}$", regex::escape(&text));
        proptest::prop_assert!(found(&quoted, &text));
    }
}
