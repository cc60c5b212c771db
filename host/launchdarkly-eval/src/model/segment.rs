//! Segments as received.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::Malformed;
use super::json::JsonReader;
use super::keys::KeySet;
use super::rule::{Clause, keys, list, properties, text, version};

/// One segment at one version, or the tombstone of a deleted one.
pub struct Segment {
    key: Arc<str>,
    json: Bytes,
    body: SegmentBody,
}

/// The properties of a segment that evaluation needs, with defaults filled in.
#[derive(Debug, Clone, Default)]
pub(crate) struct SegmentBody {
    /// The `key` inside, which is hashed; the segment is found by the key it was sent under.
    pub(crate) name: Box<str>,
    pub(crate) version: i64,
    /// Whether the version that was sent is invalid: a fraction, or a number that is negative or too large.
    pub(crate) has_odd_version: bool,
    pub(crate) deleted: bool,
    pub(crate) included: KeySet,
    pub(crate) excluded: KeySet,
    pub(crate) included_contexts: Vec<KindKeys>,
    pub(crate) excluded_contexts: Vec<KindKeys>,
    pub(crate) rules: Vec<SegmentRule>,
    pub(crate) salt: Box<str>,
    pub(crate) unbounded: bool,
    /// Empty for `user`.
    pub(crate) unbounded_context_kind: Box<str>,
    pub(crate) generation: Option<i64>,
}

/// Context keys of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct KindKeys {
    /// Empty for `user`.
    pub(crate) context_kind: Box<str>,
    pub(crate) keys: KeySet,
}

/// Conditions under which a context is in the segment.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct SegmentRule {
    pub(crate) clauses: Vec<Clause>,
    /// In thousandths of a percent; `None` means every context.
    pub(crate) weight: Option<i64>,
    /// Empty for the key.
    pub(crate) bucket_by: Box<str>,
    /// Empty for `user`, and then `bucket_by` is a plain name.
    pub(crate) rollout_context_kind: Box<str>,
}

impl Segment {
    /// Reads the segment that was sent under `key`.
    ///
    /// Absent properties have their defaults, `null` is the same as absent, unknown properties are left alone.
    ///
    /// # Errors
    ///
    /// When a known property has another JSON type than it must have.
    pub fn parse(key: &str, json: &RawValue) -> Result<Self, Malformed> {
        let body = SegmentBody::read(&mut JsonReader::new(json.get()))?;
        Ok(Self { key: key.into(), json: Bytes::copy_from_slice(json.get().as_bytes()), body })
    }

    /// The tombstone of a deleted segment: its key and the version of the deletion.
    #[must_use]
    pub fn tombstone(key: &str, version: i64) -> Self {
        let body = SegmentBody { version, deleted: true, ..SegmentBody::default() };
        Self { key: key.into(), json: Bytes::new(), body }
    }

    /// The key the segment was sent under.
    #[must_use]
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The segment's version.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.body.version
    }

    /// Whether the version that was sent can be compared with others: a whole number from 0 to 2^53 - 1.
    #[must_use]
    pub fn has_valid_version(&self) -> bool {
        !self.body.has_odd_version
    }

    /// Whether this is a tombstone.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.body.deleted
    }

    /// Whether this is a Big Segment, whose keys are kept outside.
    #[must_use]
    pub fn is_unbounded(&self) -> bool {
        self.body.unbounded
    }

    /// The segment exactly as it was sent; empty for a tombstone that was not sent as an item.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The parsed properties.
    pub(crate) fn body(&self) -> &SegmentBody {
        &self.body
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("key", &self.key).field("version", &self.version()).finish_non_exhaustive()
    }
}

impl SegmentBody {
    fn read(reader: &mut JsonReader<'_>) -> Result<Self, Malformed> {
        let mut segment = Self::default();
        properties(reader, |name, reader| {
            match name {
                "key" => segment.name = text(reader)?,
                "version" => {
                    let (version, is_version) = version(reader)?;
                    (segment.version, segment.has_odd_version) = (version, !is_version);
                }
                "deleted" => segment.deleted = reader.boolean()?,
                "included" => segment.included = keys(reader)?,
                "excluded" => segment.excluded = keys(reader)?,
                "includedContexts" => segment.included_contexts = list(reader, KindKeys::read)?,
                "excludedContexts" => segment.excluded_contexts = list(reader, KindKeys::read)?,
                "rules" => segment.rules = list(reader, SegmentRule::read)?,
                "salt" => segment.salt = text(reader)?,
                "unbounded" => segment.unbounded = reader.boolean()?,
                "unboundedContextKind" => segment.unbounded_context_kind = text(reader)?,
                "generation" => segment.generation = Some(reader.integer()?),
                _ => drop(reader.skip()),
            }
            Ok(())
        })?;
        Ok(segment)
    }
}

impl KindKeys {
    fn read(reader: &mut JsonReader<'_>) -> Result<Self, Malformed> {
        let mut entry = Self::default();
        properties(reader, |name, reader| {
            match name {
                "contextKind" => entry.context_kind = text(reader)?,
                "values" => entry.keys = keys(reader)?,
                _ => drop(reader.skip()),
            }
            Ok(())
        })?;
        Ok(entry)
    }
}

impl SegmentRule {
    fn read(reader: &mut JsonReader<'_>) -> Result<Self, Malformed> {
        let mut rule = Self::default();
        properties(reader, |name, reader| {
            match name {
                "id" => drop(reader.string()?),
                "clauses" => rule.clauses = list(reader, Clause::read)?,
                "weight" => rule.weight = Some(reader.integer()?),
                "bucketBy" => rule.bucket_by = text(reader)?,
                "rolloutContextKind" => rule.rollout_context_kind = text(reader)?,
                _ => drop(reader.skip()),
            }
            Ok(())
        })?;
        Ok(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Segment, Malformed> {
        Segment::parse("s", &RawValue::from_string(json.to_owned()).expect("valid JSON"))
    }

    #[test]
    fn keeps_its_bytes_and_its_key() {
        let json = r#"{ "key":"s", "version":3.0, "unknown":{"a":[1]}, "included":["u"], "unbounded":true }"#;
        let segment = parse(json).expect("a segment");
        assert_eq!(segment.json(), json.as_bytes());
        assert_eq!((&**segment.key(), segment.version(), segment.is_unbounded()), ("s", 3, true));
        assert!(!segment.is_deleted());
    }

    #[test]
    fn null_is_the_same_as_absent() {
        let properties = [
            "key",
            "version",
            "deleted",
            "included",
            "excluded",
            "includedContexts",
            "excludedContexts",
            "rules",
            "salt",
            "unbounded",
            "unboundedContextKind",
            "generation",
        ];
        for name in properties {
            let segment = parse(&format!(r#"{{"{name}":null}}"#)).expect(name);
            assert_eq!(format!("{:?}", segment.body), format!("{:?}", SegmentBody::default()), "{name}");
        }
    }

    #[test]
    fn a_wrong_type_is_named() {
        for (json, text) in [
            ("[]", "expected object, got array"),
            (r#"{"included":[1]}"#, "property `included[0]`: expected string, got number"),
            (
                r#"{"excludedContexts":[{},{"values":"x"}]}"#,
                "property `excludedContexts[1].values`: expected array, got string",
            ),
            (
                r#"{"rules":[{"clauses":[{"op":true}]}]}"#,
                "property `rules[0].clauses[0].op`: expected string, got boolean",
            ),
            (r#"{"rules":[{"id":1}]}"#, "property `rules[0].id`: expected string, got number"),
            (r#"{"generation":"1"}"#, "property `generation`: expected number, got string"),
        ] {
            assert_eq!(parse(json).expect_err(json).to_string(), text);
        }
    }

    #[test]
    fn tombstones() {
        assert!(parse(r#"{"deleted":true,"version":4}"#).expect("a tombstone").is_deleted());
        let segment = Segment::tombstone("s", 9);
        assert_eq!((segment.is_deleted(), segment.version(), segment.json().is_empty()), (true, 9, true));
    }
}
