//! A clause, compiled.

use regex::{Regex, RegexBuilder};
use yardarm_go_regex::Pattern;

use crate::model::Clause;

/// A compiled clause.
#[derive(Debug)]
pub(super) enum Condition {
    /// Met by members of these segments, which are looked at in order.
    Segments(Vec<Box<str>>),
    /// Met if an attribute passes a test.
    Attribute { name: Box<str>, test: Test },
    /// Never met.
    Never,
}

/// The test of an attribute's text.
#[derive(Debug)]
pub(super) enum Test {
    /// Equal under simple case folding, letter by letter.
    Equal(Box<Regex>),
    EqualSensitive(Box<str>),
    In(Vec<Box<str>>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    /// Greater as bytes, even if the texts are numbers.
    Greater(Box<str>),
    Match(Pattern),
}

impl Condition {
    /// Returns the segments that it names.
    pub(super) fn segments(&self) -> &[Box<str>] {
        if let Self::Segments(segments) = self { segments } else { &[] }
    }

    /// Returns how many comparisons it takes at most.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Segments(segments) => segments.len(),
            Self::Attribute { test: Test::In(values), .. } => values.len(),
            Self::Attribute { .. } | Self::Never => 1,
        }
    }

    /// Compiles a clause. `negate` is ignored, as by the vendor's evaluators.
    pub(super) fn compile(clause: &Clause) -> Self {
        let Some(first) = clause.values.first() else { return Self::Never };
        let first: Box<str> = first.as_str().into();
        let all = || clause.values.iter().map(|it| it.as_str().into()).collect();
        let test = match clause.op.as_str() {
            "segmentMatch" => return Self::Segments(all()),
            "equal" => match fold(&first) {
                Some(pattern) => Test::Equal(Box::new(pattern)),
                None => return Self::Never,
            },
            "equal_sensitive" => Test::EqualSensitive(first),
            "in" => Test::In(all()),
            "starts_with" => Test::StartsWith(first),
            "ends_with" => Test::EndsWith(first),
            "contains" => Test::Contains(first),
            "gt" => Test::Greater(first),
            "match" => Test::Match(Pattern::new(&first)),
            _ => return Self::Never,
        };
        Self::Attribute { name: clause.attribute.as_str().into(), test }
    }
}

/// Compiles a case-insensitive comparison. Case-insensitive matching of the `regex` crate is Unicode's simple case folding,
/// which is Go's `EqualFold`.
fn fold(text: &str) -> Option<Regex> {
    RegexBuilder::new(&format!(r"\A(?:{})\z", regex::escape(text))).case_insensitive(true).build().ok()
}

impl Test {
    /// Returns whether `text` passes. It must not be empty: an absent or empty attribute passes no test.
    pub(super) fn passes(&self, text: &str) -> bool {
        match self {
            Self::Equal(pattern) => pattern.is_match(text),
            Self::EqualSensitive(value) => text == &**value,
            Self::In(values) => values.iter().any(|it| **it == *text),
            Self::StartsWith(value) => text.starts_with(&**value),
            Self::EndsWith(value) => text.ends_with(&**value),
            Self::Contains(value) => text.contains(&**value),
            Self::Greater(value) => text.as_bytes() > value.as_bytes(),
            Self::Match(pattern) => pattern.is_found_in(text),
        }
    }
}
