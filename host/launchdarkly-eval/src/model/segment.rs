//! Segments as received.

use serde::{Deserialize, Serialize};

use super::Malformed;
use super::item::{Body, Item};
use super::json::JsonReader;
use super::keys::KeySet;
use super::rule::{Clause, keys, list, properties, text};

/// One segment at one version, or the tombstone of a deleted one.
pub type Segment = Item<SegmentBody>;

/// The properties of a segment that evaluation needs, with defaults filled in.
#[derive(Debug, Clone, Default)]
pub struct SegmentBody {
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

/// The properties of a segment that are needed without evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFacts {
    is_unbounded: bool,
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
    /// Whether this is a Big Segment, whose keys are kept outside.
    #[must_use]
    pub fn is_unbounded(&self) -> bool {
        self.facts().is_unbounded
    }
}

impl Body for SegmentBody {
    const TYPE: &'static str = "Segment";

    type Facts = SegmentFacts;

    fn facts(&self) -> SegmentFacts {
        SegmentFacts { is_unbounded: self.unbounded }
    }

    fn read(&mut self, name: &str, reader: &mut JsonReader<'_>) -> Result<(), Malformed> {
        match name {
            "included" => self.included = keys(reader)?,
            "excluded" => self.excluded = keys(reader)?,
            "includedContexts" => self.included_contexts = list(reader, KindKeys::read)?,
            "excludedContexts" => self.excluded_contexts = list(reader, KindKeys::read)?,
            "rules" => self.rules = list(reader, SegmentRule::read)?,
            "salt" => self.salt = text(reader)?,
            "unbounded" => self.unbounded = reader.boolean()?,
            "unboundedContextKind" => self.unbounded_context_kind = text(reader)?,
            "generation" => self.generation = Some(reader.integer()?),
            _ => drop(reader.skip()),
        }
        Ok(())
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
    use serde_json::value::RawValue;

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
            let head = (segment.name(), segment.version(), segment.is_deleted(), segment.has_valid_version());
            assert_eq!(head, ("", 0, false, true), "{name}");
            assert_eq!(format!("{:?}", segment.body()), format!("{:?}", SegmentBody::default()), "{name}");
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
