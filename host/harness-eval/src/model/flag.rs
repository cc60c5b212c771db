//! A flag and the rules that it is evaluated by.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::Error;
use serde_json::Value;

use super::shape;
use super::text::Text;
use super::wire::{Malformed, or_default, version};

/// A flag: the properties that evaluation needs, and the text that is sent to SDKs.
#[derive(Debug)]
pub struct Flag {
    /// Identifier.
    pub feature: Arc<str>,
    /// Grows with each change; 0 when absent.
    pub version: i64,
    pub(crate) state: String,
    kind: Arc<str>,
    pub(crate) variations: Vec<Variation>,
    pub(crate) default_serve: Serve,
    pub(crate) off_variation: String,
    pub(crate) rules: Vec<Rule>,
    pub(crate) prerequisites: Vec<Prerequisite>,
    pub(crate) variation_map: Vec<VariationMap>,
    text: Text,
}

/// The properties that are read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    feature: String,
    #[serde(default, deserialize_with = "or_default")]
    state: String,
    #[serde(default, deserialize_with = "or_default")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    variations: Vec<Variation>,
    #[serde(default, deserialize_with = "or_default")]
    default_serve: Serve,
    #[serde(default, deserialize_with = "or_default")]
    off_variation: String,
    #[serde(default, deserialize_with = "or_default")]
    rules: Vec<Rule>,
    #[serde(default, deserialize_with = "or_default")]
    prerequisites: Vec<Prerequisite>,
    #[serde(default, deserialize_with = "or_default")]
    variation_to_target_map: Vec<VariationMap>,
    #[serde(default, deserialize_with = "version")]
    version: i64,
}

/// One of the values that a flag can have.
#[derive(Debug, Clone, Deserialize)]
pub struct Variation {
    /// Identifier.
    pub identifier: Arc<str>,
    /// The value as text, for flags of any kind.
    #[serde(default, deserialize_with = "or_default")]
    pub value: String,
}

/// What a flag or a rule serves: a variation, or one of several by percentage.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Serve {
    /// Identifier of a variation.
    pub variation: Option<String>,
    /// Shares.
    pub distribution: Option<Distribution>,
}

/// A percentage rollout.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Distribution {
    /// Attribute that targets are distributed by; the identifier where a target lacks it.
    #[serde(default, deserialize_with = "or_default")]
    pub bucket_by: String,
    /// In the order in which they take their shares of the buckets.
    #[serde(default, deserialize_with = "or_default")]
    pub variations: Vec<WeightedVariation>,
}

/// A variation and its share.
#[derive(Debug, Clone, Deserialize)]
pub struct WeightedVariation {
    /// Identifier of a variation.
    #[serde(default, deserialize_with = "or_default")]
    pub variation: String,
    /// Percentage, from 0 to 100.
    #[serde(default, deserialize_with = "or_default")]
    pub weight: i64,
}

/// A rule: what is served to targets that match all clauses.
#[derive(Debug, Clone, Deserialize)]
pub struct Rule {
    /// Rules are evaluated from the lowest.
    #[serde(default, deserialize_with = "or_default")]
    pub priority: i64,
    /// The conditions.
    #[serde(default, deserialize_with = "or_default")]
    pub clauses: Vec<Clause>,
    /// What it serves.
    #[serde(default, deserialize_with = "or_default")]
    pub serve: Serve,
}

/// A condition.
#[derive(Debug, Clone, Deserialize)]
pub struct Clause {
    /// Attribute.
    #[serde(default, deserialize_with = "or_default")]
    pub attribute: String,
    /// Operator.
    #[serde(default, deserialize_with = "or_default")]
    pub op: String,
    /// Operands; most operators use the first only.
    #[serde(default, deserialize_with = "or_default")]
    pub values: Vec<String>,
}

/// Another flag that must serve one of certain variations.
#[derive(Debug, Clone, Deserialize)]
pub struct Prerequisite {
    /// Identifier of that flag.
    pub feature: String,
    /// Identifiers of the variations.
    #[serde(default, deserialize_with = "or_default")]
    pub variations: Vec<String>,
}

/// A variation for certain targets and segments.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariationMap {
    /// Identifier of the variation.
    #[serde(default, deserialize_with = "or_default")]
    pub variation: String,
    /// Targets that it is served to.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) targets: Vec<Named>,
    /// Segments to whose members it is served.
    #[serde(default)]
    pub(crate) target_segments: Option<Vec<String>>,
}

/// A reference to a target by its identifier.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Named {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) identifier: String,
}

impl Flag {
    /// Reads a flag.
    ///
    /// # Errors
    /// When a property that matters is missing or of another type.
    pub fn read(mut value: Value) -> Result<Self, Malformed> {
        let malformed = |source| Malformed { kind: "flag", source };
        shape::FLAG.apply(&mut value).map_err(malformed)?;
        let text = Text::new(&value).map_err(malformed)?;
        let wire: Wire = serde_json::from_value(value).map_err(malformed)?;
        if wire.feature.is_empty() {
            return Err(malformed(serde_json::Error::custom("it has no identifier")));
        }
        let mut rules = wire.rules;
        rules.sort_by_key(|it| it.priority);
        Ok(Self {
            feature: wire.feature.into(),
            version: wire.version,
            state: wire.state,
            kind: wire.kind.into(),
            variations: wire.variations,
            default_serve: wire.default_serve,
            off_variation: wire.off_variation,
            rules,
            prerequisites: wire.prerequisites,
            variation_map: wire.variation_to_target_map,
            text,
        })
    }

    /// Returns `boolean`, `int`, `string` or `json`, which is forwarded and has no influence on evaluation.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the text that is sent to SDKs in lists.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        self.text.json()
    }

    /// Returns the text that is sent to SDKs for this flag alone.
    #[must_use]
    pub fn line(&self) -> &Bytes {
        self.text.line()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent(flag: Value) -> Value {
        serde_json::from_slice(Flag::read(flag).unwrap().json()).unwrap()
    }

    #[test]
    fn properties_that_sdks_require_are_filled_in_and_nothing_is_lost() {
        // F059, F060
        let clause =
            |clause: Value| json!({"feature": "f", "rules": [{"priority": 1, "clauses": [clause], "serve": {}}]});
        for flag in [json!({"feature": "f", "x": 1.5}), json!({"feature": "f", "variationToTargetMap": null, "x": 1.5})]
        {
            let sent = sent(flag);
            assert_eq!((&sent["variationToTargetMap"], &sent["x"]), (&json!([]), &json!(1.5)));
        }
        for negate in [json!({}), json!({"negate": null}), json!({"negate": false})] {
            assert_eq!(sent(clause(negate))["rules"][0]["clauses"][0]["negate"], false);
        }
        assert_eq!(sent(clause(json!({"negate": true})))["rules"][0]["clauses"][0]["negate"], true);
    }

    #[test]
    fn wrong_types_are_errors() {
        for flag in
            [json!([]), json!({}), json!({"feature": 1}), json!({"feature": ""}), json!({"feature": "f", "rules": {}})]
        {
            assert!(Flag::read(flag.clone()).is_err(), "{flag}");
        }
    }
}
