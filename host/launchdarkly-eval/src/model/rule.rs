//! Parts of both flags and segments: clauses, rollouts, and how their properties are read.

use super::json::{JsonReader, Mismatch, Type};
use super::keys::{KeySet, KeySetBuilder};
use super::{MAX_VERSION, Malformed, as_integer};

/// A condition on the context.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Clause {
    /// Empty for `user`, and then `attribute` is a plain name.
    pub(crate) context_kind: Box<str>,
    /// Empty if there is none.
    pub(crate) attribute: Box<str>,
    pub(crate) operator: Operator,
    /// The values that can match; arrays, objects and null never match and are left out.
    pub(crate) values: Vec<Literal>,
    pub(crate) negate: bool,
}

/// A clause value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Text(Box<str>),
    Number(f64),
    Boolean(bool),
}

/// How a clause compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Operator {
    /// An operator that this version does not know; it never matches.
    #[default]
    Unknown,
    In,
    StartsWith,
    EndsWith,
    Contains,
    Matches,
    LessThan,
    LessThanOrEqual,
    GreaterThan,
    GreaterThanOrEqual,
    Before,
    After,
    SemVerEqual,
    SemVerLessThan,
    SemVerGreaterThan,
    SegmentMatch,
}

/// A distribution of contexts over variations.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Rollout {
    pub(crate) experiment: bool,
    /// Empty for `user`, and then `bucket_by` is a plain name.
    pub(crate) context_kind: Box<str>,
    /// Empty for the key.
    pub(crate) bucket_by: Box<str>,
    pub(crate) seed: Option<i64>,
    pub(crate) shares: Vec<Share>,
}

/// One bucket of a rollout: a weighted variation.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Share {
    pub(crate) variation: i64,
    /// In thousandths of a percent.
    pub(crate) weight: i64,
    pub(crate) untracked: bool,
}

impl Clause {
    pub(super) fn read(reader: &mut JsonReader<'_>) -> Result<Self, Malformed> {
        let mut clause = Self::default();
        properties(reader, |name, reader| {
            match name {
                "contextKind" => clause.context_kind = text(reader)?,
                "attribute" => clause.attribute = text(reader)?,
                "op" => clause.operator = Operator::named(&reader.string()?),
                "values" => elements(reader, |reader| {
                    clause.values.extend(Literal::read(reader)?);
                    Ok(())
                })?,
                "negate" => clause.negate = reader.boolean()?,
                _ => drop(reader.skip()),
            }
            Ok(())
        })?;
        Ok(clause)
    }
}

impl Literal {
    fn read(reader: &mut JsonReader<'_>) -> Result<Option<Self>, Mismatch> {
        Ok(match reader.peek() {
            Type::String => Some(Self::Text(reader.string()?.into())),
            Type::Number => Some(Self::Number(reader.number()?)),
            Type::Boolean => Some(Self::Boolean(reader.boolean()?)),
            Type::Null | Type::Array | Type::Object => {
                reader.skip();
                None
            }
        })
    }
}

impl Operator {
    fn named(name: &str) -> Self {
        match name {
            "in" => Self::In,
            "startsWith" => Self::StartsWith,
            "endsWith" => Self::EndsWith,
            "contains" => Self::Contains,
            "matches" => Self::Matches,
            "lessThan" => Self::LessThan,
            "lessThanOrEqual" => Self::LessThanOrEqual,
            "greaterThan" => Self::GreaterThan,
            "greaterThanOrEqual" => Self::GreaterThanOrEqual,
            "before" => Self::Before,
            "after" => Self::After,
            "semVerEqual" => Self::SemVerEqual,
            "semVerLessThan" => Self::SemVerLessThan,
            "semVerGreaterThan" => Self::SemVerGreaterThan,
            "segmentMatch" => Self::SegmentMatch,
            _ => Self::Unknown,
        }
    }
}

impl Rollout {
    pub(super) fn read(reader: &mut JsonReader<'_>) -> Result<Self, Malformed> {
        let mut rollout = Self::default();
        properties(reader, |name, reader| {
            match name {
                // Every other text is a plain rollout.
                "kind" => rollout.experiment = reader.string()? == "experiment",
                "contextKind" => rollout.context_kind = text(reader)?,
                "bucketBy" => rollout.bucket_by = text(reader)?,
                "seed" => rollout.seed = Some(reader.integer()?),
                "variations" => rollout.shares = list(reader, Share::read)?,
                _ => drop(reader.skip()),
            }
            Ok(())
        })?;
        Ok(rollout)
    }
}

impl Share {
    fn read(reader: &mut JsonReader<'_>) -> Result<Self, Malformed> {
        let mut share = Self::default();
        properties(reader, |name, reader| {
            match name {
                "variation" => share.variation = reader.integer()?,
                "weight" => share.weight = reader.integer()?,
                "untracked" => share.untracked = reader.boolean()?,
                _ => drop(reader.skip()),
            }
            Ok(())
        })?;
        Ok(share)
    }
}

/// Reads an object; `null` counts as absent for every property, and errors learn the property's name.
pub(super) fn properties(
    reader: &mut JsonReader<'_>,
    mut read: impl FnMut(&str, &mut JsonReader<'_>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    reader.object(|name, reader| {
        if reader.null() {
            return Ok(());
        }
        read(name, reader).map_err(|error| error.in_property(name))
    })
}

/// Reads the version of an item, whose fraction is dropped, and returns whether it is a version at all.
pub(super) fn version(reader: &mut JsonReader<'_>) -> Result<(i64, bool), Malformed> {
    let number = reader.number()?;
    #[expect(clippy::cast_possible_truncation, reason = "dropping the fraction is the rule; the cast saturates")]
    Ok((number as i64, as_version(number).is_some()))
}

/// The version that `number` is, if it is one.
#[must_use]
pub fn as_version(number: f64) -> Option<i64> {
    as_integer(number).filter(|it| (0..=MAX_VERSION).contains(it))
}

/// Reads an array; errors learn the element's index.
pub(super) fn elements(
    reader: &mut JsonReader<'_>,
    mut read: impl FnMut(&mut JsonReader<'_>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut index = 0;
    reader.array(|reader| {
        read(reader).map_err(|error| error.in_element(index))?;
        index += 1;
        Ok(())
    })
}

/// Reads an array into a list; `null` elements are left out.
pub(super) fn list<T>(
    reader: &mut JsonReader<'_>,
    read: impl Fn(&mut JsonReader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut list = Vec::new();
    elements(reader, |reader| {
        if !reader.null() {
            list.push(read(reader)?);
        }
        Ok(())
    })?;
    Ok(list)
}

/// Reads a string.
pub(super) fn text(reader: &mut JsonReader<'_>) -> Result<Box<str>, Malformed> {
    Ok(reader.string()?.into())
}

/// Reads an array of strings into a set; `null` elements are left out.
pub(super) fn keys(reader: &mut JsonReader<'_>) -> Result<KeySet, Malformed> {
    let mut keys = KeySetBuilder::default();
    elements(reader, |reader| {
        if !reader.null() {
            keys.push(&reader.string()?);
        }
        Ok(())
    })?;
    Ok(keys.finish())
}
