//! A flag and what decides about it.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::Error;
use serde_json::Value;

use super::shape;
use super::text::Text;
use super::wire::{Malformed, or_default, version};

/// A flag: what evaluation needs, and the text that SDKs are sent.
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
    /// The value as text, whatever the kind of the flag.
    #[serde(default, deserialize_with = "or_default")]
    pub value: String,
}

/// What is served: a variation, or one of several by percentage.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Serve {
    /// Identifier of a variation.
    pub variation: Option<String>,
    /// Shares.
    pub distribution: Option<Distribution>,
}

/// Shares of targets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Distribution {
    /// Attribute that decides; the identifier where a target has none of it.
    #[serde(default, deserialize_with = "or_default")]
    pub bucket_by: String,
    /// In the order in which they take their shares.
    #[serde(default, deserialize_with = "or_default")]
    pub variations: Vec<WeightedVariation>,
}

/// A share.
#[derive(Debug, Clone, Deserialize)]
pub struct WeightedVariation {
    /// Identifier of a variation.
    #[serde(default, deserialize_with = "or_default")]
    pub variation: String,
    /// Percent.
    #[serde(default, deserialize_with = "or_default")]
    pub weight: i64,
}

/// Serves something to targets that match all clauses.
#[derive(Debug, Clone, Deserialize)]
pub struct Rule {
    /// The lowest comes first.
    #[serde(default, deserialize_with = "or_default")]
    pub priority: i64,
    /// Conditions.
    #[serde(default, deserialize_with = "or_default")]
    pub clauses: Vec<Clause>,
    /// What is served.
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
    /// Operands; most operators look at the first only.
    #[serde(default, deserialize_with = "or_default")]
    pub values: Vec<String>,
}

/// Another flag that must serve one of some variations.
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
    /// Who gets it.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) targets: Vec<Named>,
    /// Whose members get it.
    #[serde(default)]
    pub(crate) target_segments: Option<Vec<String>>,
}

/// Something with an identifier.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Named {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) identifier: String,
}

impl Flag {
    /// Reads a flag.
    ///
    /// # Errors
    /// When a property is not what it should be.
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

    /// `boolean`, `int`, `string` or `json`; passed on and without influence.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The text that SDKs are sent.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        self.text.json()
    }

    /// The same as an answer of its own.
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
    fn what_sdks_cannot_do_without_is_filled_in_and_nothing_is_lost() {
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
