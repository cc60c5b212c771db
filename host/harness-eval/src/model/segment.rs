//! A segment, which is a group of targets.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::Error;
use serde_json::Value;

use super::flag::{Clause, Named};
use super::shape;
use super::text::Text;
use super::wire::{Malformed, or_default, version};

/// A segment: the properties that evaluation needs, and the two texts that are sent to SDKs.
#[derive(Debug)]
pub struct Segment {
    /// Identifier.
    pub identifier: Arc<str>,
    /// Grows with each change; 0 when absent.
    pub version: i64,
    pub(crate) included: Vec<Named>,
    pub(crate) excluded: Vec<Named>,
    pub(crate) rules: Vec<Clause>,
    /// In order of priority.
    pub(crate) group_rules: Vec<GroupRule>,
    json: Bytes,
    with_group_rules: Text,
    with_rules: Text,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    identifier: String,
    #[serde(default, deserialize_with = "or_default")]
    included: Vec<Named>,
    #[serde(default, deserialize_with = "or_default")]
    excluded: Vec<Named>,
    #[serde(default, deserialize_with = "or_default")]
    rules: Vec<Clause>,
    #[serde(default, deserialize_with = "or_default")]
    serving_rules: Vec<GroupRule>,
    #[serde(default, deserialize_with = "version")]
    version: i64,
}

/// A rule whose clauses must all match ("AND rules").
#[derive(Debug, Clone, Deserialize)]
pub struct GroupRule {
    /// Rules are evaluated from the lowest.
    #[serde(default, deserialize_with = "or_default")]
    pub priority: i64,
    /// The conditions.
    #[serde(default, deserialize_with = "or_default")]
    pub clauses: Vec<Clause>,
}

impl Segment {
    /// Reads a segment.
    ///
    /// # Errors
    /// When a property that matters is missing or of another type.
    pub fn read(mut value: Value) -> Result<Self, Malformed> {
        let malformed = |source| Malformed { kind: "segment", source };
        shape::SEGMENT.apply(&mut value).map_err(malformed)?;
        let json = serde_json::to_vec(&value).map_err(malformed)?.into();
        let old = for_old_sdks(value.clone());
        let new = for_new_sdks(value.clone());
        let wire: Wire = serde_json::from_value(value).map_err(malformed)?;
        if wire.identifier.is_empty() {
            return Err(malformed(serde_json::Error::custom("it has no identifier")));
        }
        let mut group_rules = wire.serving_rules;
        group_rules.sort_by_key(|it| it.priority);
        Ok(Self {
            identifier: wire.identifier.into(),
            version: wire.version,
            included: wire.included,
            excluded: wire.excluded,
            rules: wire.rules,
            group_rules,
            json,
            with_group_rules: Text::new(&new).map_err(malformed)?,
            with_rules: Text::new(&old).map_err(malformed)?,
        })
    }

    /// Returns the segment without its newer rules, as SDKs evaluate it that support the older rules only.
    #[must_use]
    pub fn with_old_rules_only(self: &Arc<Self>) -> Arc<Self> {
        if self.group_rules.is_empty() {
            return Arc::clone(self);
        }
        let old = serde_json::from_slice(self.with_rules.json()).ok().and_then(|it| Self::read(it).ok());
        // This text was written by `read`, so it can be read again.
        old.map_or_else(|| Arc::clone(self), Arc::new)
    }

    /// Returns the text with both kinds of rules, as upstream sends it.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// Returns the text for SDKs that request `rules=v2`: with the newer rules where there are any.
    #[must_use]
    pub fn with_group_rules(&self) -> &Text {
        &self.with_group_rules
    }

    /// Returns the text for SDKs that support the older rules only.
    #[must_use]
    pub fn with_rules(&self) -> &Text {
        &self.with_rules
    }
}

fn has_group_rules(segment: &Value) -> bool {
    segment.get("servingRules").and_then(Value::as_array).is_some_and(|it| !it.is_empty())
}

/// Removes the newer rules. Where there are no others, the first clause of each becomes an older rule, which is all that the
/// older form can express.
fn for_old_sdks(mut segment: Value) -> Value {
    let first_clause = |rule: &Value| rule.get("clauses")?.as_array()?.first().cloned();
    let rules = segment.get("servingRules").and_then(Value::as_array);
    let derived: Vec<_> = rules.into_iter().flatten().filter_map(first_clause).collect();
    let has_rules = segment.get("rules").and_then(Value::as_array).is_some_and(|it| !it.is_empty());
    if let Some(properties) = segment.as_object_mut() {
        properties.remove("servingRules");
        if !has_rules && !derived.is_empty() {
            properties.insert("rules".to_owned(), Value::Array(derived));
        }
    }
    segment
}

/// Removes the older rules, unless there are no others.
fn for_new_sdks(mut segment: Value) -> Value {
    let drop = if has_group_rules(&segment) { "rules" } else { "servingRules" };
    if let Some(properties) = segment.as_object_mut() {
        properties.remove(drop);
    }
    segment
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_sdk_gets_the_rules_that_it_supports() {
        // F063 to F065
        let clause = |op: &str| json!({"attribute": "a", "op": op, "values": ["x"], "negate": false});
        let group = |clauses: Value| json!({"ruleId": "r", "priority": 1, "clauses": clauses});
        let both = json!({"identifier": "s", "name": "", "rules": [clause("in")], "servingRules": [group(json!([clause("gt")]))]});
        let only_new = json!({"identifier": "s", "name": "", "servingRules": [
            group(json!([clause("gt"), clause("in")])), group(json!([])), group(json!([clause("equal")]))]});
        let only_old = json!({"identifier": "s", "name": "", "rules": [clause("in")]});
        let none = json!({"identifier": "s", "name": "", "servingRules": []});
        for (segment, old, new) in [
            (
                both,
                json!({"identifier": "s", "name": "", "rules": [clause("in")]}),
                json!({"identifier": "s", "name": "", "servingRules": [group(json!([clause("gt")]))]}),
            ),
            (
                only_new.clone(),
                json!({"identifier": "s", "name": "", "rules": [clause("gt"), clause("equal")]}),
                only_new,
            ),
            (only_old.clone(), only_old.clone(), only_old),
            (none, json!({"identifier": "s", "name": ""}), json!({"identifier": "s", "name": ""})),
        ] {
            let read = Segment::read(segment).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(read.with_rules().json()).unwrap(), old);
            assert_eq!(serde_json::from_slice::<Value>(read.with_group_rules().json()).unwrap(), new);
        }
    }

    #[test]
    fn clauses_have_negate_in_both_forms() {
        // F060
        let segment =
            json!({"identifier": "s", "name": "", "servingRules": [{"priority": 1, "clauses": [{"op": "in"}]}]});
        let read = Segment::read(segment).unwrap();
        let old: Value = serde_json::from_slice(read.with_rules().line()).unwrap();
        let new: Value = serde_json::from_slice(read.with_group_rules().line()).unwrap();
        assert_eq!(old["rules"][0]["negate"], false);
        assert_eq!(new["servingRules"][0]["clauses"][0]["negate"], false);
    }
}
