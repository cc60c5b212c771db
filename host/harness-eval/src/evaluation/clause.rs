//! A condition with its operand prepared.

use regex::{Regex, RegexBuilder};
use yardarm_go_regex::Pattern;

use crate::model::Clause;

/// A condition, compiled.
#[derive(Debug)]
pub(super) enum Condition {
    /// Members of these segments, tried in order.
    Segments(Vec<Box<str>>),
    /// An attribute that passes a test.
    Attribute { name: Box<str>, test: Test },
    /// Nobody.
    Never,
}

/// What an attribute's text is compared with.
#[derive(Debug)]
pub(super) enum Test {
    /// Equal under simple case folding, letter by letter.
    Equal(Box<Regex>),
    EqualSensitive(Box<str>),
    In(Vec<Box<str>>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    /// Greater as bytes, also where the texts are numbers.
    Greater(Box<str>),
    Match(Pattern),
}

impl Condition {
    /// Segments that it names.
    pub(super) fn segments(&self) -> &[Box<str>] {
        if let Self::Segments(segments) = self { segments } else { &[] }
    }

    /// How many comparisons it takes at most.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Segments(segments) => segments.len(),
            Self::Attribute { test: Test::In(values), .. } => values.len(),
            Self::Attribute { .. } | Self::Never => 1,
        }
    }

    /// `negate` is read by nobody: the vendor's evaluators ignore it.
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

/// Case-insensitive matching of the `regex` crate is Unicode's simple case folding, which is Go's `EqualFold`.
fn fold(text: &str) -> Option<Regex> {
    RegexBuilder::new(&format!(r"\A(?:{})\z", regex::escape(text))).case_insensitive(true).build().ok()
}

impl Test {
    /// `text` is not empty: an absent or empty attribute passes no test.
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
