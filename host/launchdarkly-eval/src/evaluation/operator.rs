//! Operators with their values prepared: all parsing is done when a flag is compiled.

use std::cmp::Ordering;
use std::sync::Arc;

use yardarm_go_regex::Pattern;

use super::date::Date;
use super::semver::Version;
use crate::model::{KeySet, Literal, Operator, Text, Value};

/// Up to this many texts are compared one by one, which is faster than a probe.
const FEW: usize = 8;

/// Whether a value matches: one operator with all values of its clause.
///
/// One match is enough, so of several bounds only the widest is kept.
#[derive(Debug)]
pub(super) enum Test {
    /// No value matches.
    Never,
    In(Members),
    StartsWith(Box<[Box<str>]>),
    EndsWith(Box<[Box<str>]>),
    Contains(Box<[Box<str>]>),
    Matches(Box<[Arc<Pattern>]>),
    Less(f64),
    LessOrEqual(f64),
    Greater(f64),
    GreaterOrEqual(f64),
    Before(Date),
    After(Date),
    VersionEqual(Box<[Version<'static>]>),
    VersionLess(Box<Version<'static>>),
    VersionGreater(Box<Version<'static>>),
}

/// The values of an `in` clause.
#[derive(Debug)]
pub(super) struct Members {
    /// The bits of all texts, by which most values miss.
    filter: u64,
    texts: Texts,
    /// In ascending order.
    numbers: Box<[f64]>,
    yes: bool,
    no: bool,
}

#[derive(Debug)]
enum Texts {
    Few(Box<[Text]>),
    Many(KeySet),
}

impl Test {
    /// In place of an attribute: the kind of any individual context is tested.
    pub(super) const ANY_KIND: u32 = u32::MAX;

    /// Prepares `operator` with `values`; `pattern` compiles a regular expression. Segments are not matched here.
    pub(super) fn compile(operator: Operator, values: &[Literal], pattern: impl FnMut(&str) -> Arc<Pattern>) -> Self {
        match operator {
            Operator::Unknown | Operator::SegmentMatch => Self::Never,
            Operator::In => Self::In(Members::compile(values)),
            Operator::StartsWith => Self::StartsWith(texts(values).map(Box::from).collect()),
            Operator::EndsWith => Self::EndsWith(texts(values).map(Box::from).collect()),
            Operator::Contains => Self::Contains(texts(values).map(Box::from).collect()),
            Operator::Matches => Self::Matches(texts(values).map(pattern).collect()),
            Operator::LessThan => numbers(values).reduce(f64::max).map_or(Self::Never, Self::Less),
            Operator::LessThanOrEqual => numbers(values).reduce(f64::max).map_or(Self::Never, Self::LessOrEqual),
            Operator::GreaterThan => numbers(values).reduce(f64::min).map_or(Self::Never, Self::Greater),
            Operator::GreaterThanOrEqual => numbers(values).reduce(f64::min).map_or(Self::Never, Self::GreaterOrEqual),
            Operator::Before => {
                dates(values).reduce(|a, b| if b > a { b } else { a }).map_or(Self::Never, Self::Before)
            }
            Operator::After => dates(values).reduce(|a, b| if b < a { b } else { a }).map_or(Self::Never, Self::After),
            Operator::SemVerEqual => Self::VersionEqual(versions(values).map(Version::into_owned).collect()),
            Operator::SemVerLessThan => versions(values)
                .max_by(Version::precedence)
                .map_or(Self::Never, |version| Self::VersionLess(Box::new(version.into_owned()))),
            Operator::SemVerGreaterThan => versions(values)
                .min_by(Version::precedence)
                .map_or(Self::Never, |version| Self::VersionGreater(Box::new(version.into_owned()))),
        }
    }

    /// Whether `value`, or one of its elements if it is an array, matches.
    pub(super) fn hits(&self, value: &Value) -> bool {
        match value {
            // One level only: arrays in arrays match nothing.
            Value::Array(elements) => elements.iter().any(|element| self.hits_one(element)),
            value => self.hits_one(value),
        }
    }

    fn hits_one(&self, value: &Value) -> bool {
        match self {
            Self::Never => false,
            Self::In(members) => members.contain(value),
            Self::StartsWith(texts) => text(value).is_some_and(|it| texts.iter().any(|text| it.starts_with(&**text))),
            Self::EndsWith(texts) => text(value).is_some_and(|it| texts.iter().any(|text| it.ends_with(&**text))),
            Self::Contains(texts) => text(value).is_some_and(|it| texts.iter().any(|text| it.contains(&**text))),
            Self::Matches(patterns) => {
                text(value).is_some_and(|text| patterns.iter().any(|pattern| pattern.is_found_in(text)))
            }
            Self::Less(bound) => number(value).is_some_and(|number| number < *bound),
            Self::LessOrEqual(bound) => number(value).is_some_and(|number| number <= *bound),
            Self::Greater(bound) => number(value).is_some_and(|number| number > *bound),
            Self::GreaterOrEqual(bound) => number(value).is_some_and(|number| number >= *bound),
            Self::Before(bound) => Date::of(value).is_some_and(|date| date < *bound),
            Self::After(bound) => Date::of(value).is_some_and(|date| date > *bound),
            Self::VersionEqual(versions) => text(value)
                .and_then(Version::parse)
                .is_some_and(|version| versions.iter().any(|other| version.precedence(other) == Ordering::Equal)),
            Self::VersionLess(bound) => {
                text(value).and_then(Version::parse).is_some_and(|version| version.precedence(bound).is_lt())
            }
            Self::VersionGreater(bound) => {
                text(value).and_then(Version::parse).is_some_and(|version| version.precedence(bound).is_gt())
            }
        }
    }
}

impl Members {
    fn compile(values: &[Literal]) -> Self {
        let texts = if texts(values).count() > FEW {
            Texts::Many(texts(values).collect())
        } else {
            Texts::Few(texts(values).map(Text::new).collect())
        };
        let mut numbers: Box<[f64]> = numbers(values).collect();
        numbers.sort_by(f64::total_cmp);
        let filter = self::texts(values).fold(0, |filter, it| filter | Text::new(it).bit());
        let has = |boolean| values.contains(&Literal::Boolean(boolean));
        Self { filter, texts, numbers, yes: has(true), no: has(false) }
    }

    fn contain(&self, value: &Value) -> bool {
        match value {
            Value::Text(text) if self.filter & text.bit() == 0 => false,
            Value::Text(text) => match &self.texts {
                Texts::Few(texts) => texts.contains(text),
                Texts::Many(texts) => texts.contains(text),
            },
            // Adding zero makes the two zeros one.
            Value::Number(number) => self.numbers.binary_search_by(|it| it.total_cmp(&(number + 0.0))).is_ok(),
            Value::Boolean(true) => self.yes,
            Value::Boolean(false) => self.no,
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        }
    }
}

fn texts(values: &[Literal]) -> impl Iterator<Item = &str> {
    values.iter().filter_map(|value| match value {
        Literal::Text(text) => Some(&**text),
        _ => None,
    })
}

fn numbers(values: &[Literal]) -> impl Iterator<Item = f64> {
    values.iter().filter_map(|value| match value {
        Literal::Number(number) => Some(number + 0.0),
        _ => None,
    })
}

fn dates(values: &[Literal]) -> impl Iterator<Item = Date> {
    values.iter().filter_map(Date::of_literal)
}

fn versions(values: &[Literal]) -> impl Iterator<Item = Version<'_>> {
    texts(values).filter_map(Version::parse)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text.as_str()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(*number),
        _ => None,
    }
}
