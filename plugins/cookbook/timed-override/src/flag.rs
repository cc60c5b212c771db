//! Rewrites a flag so that every SDK evaluates it to one variation.

use std::fmt;

use serde::Deserialize;
use yardarm_plugin::json::{self, Object};
use yardarm_plugin::{PluginError, Result};

/// A variation as the vendor names it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Variation {
    /// LaunchDarkly: its position, from 0.
    Position(usize),
    /// Harness: its identifier.
    Identifier(String),
}

/// Properties that could lead to another variation.
const WAYS_AROUND: [&str; 5] = ["prerequisites", "targets", "contextTargets", "rules", "variationToTargetMap"];

/// Returns the flag with one variation for all contexts; everything else is unchanged, its version too.
///
/// # Errors
///
/// The flag has no such variation.
pub(crate) fn fix(flag: &str, variation: &Variation) -> Result<String> {
    let mut flag = Object::parse(flag)?;
    let variations = json::elements(flag.get("variations").unwrap_or("[]"))?;
    let is_known = match variation {
        Variation::Position(position) => *position < variations.len() && flag.get("feature").is_none(),
        Variation::Identifier(name) => {
            let has_name = |json: &str| Ok(Object::parse(json)?.text("identifier").as_deref() == Some(name));
            variations.iter().map(|json| has_name(json)).collect::<Result<Vec<_>>>()?.contains(&true)
        }
    };
    if !is_known {
        return Err(PluginError::invalid_input(format_args!("it has no variation {variation}")));
    }
    for name in WAYS_AROUND {
        if flag.get(name).is_some() {
            flag.set(name, "[]");
        }
    }
    match variation {
        Variation::Position(position) => {
            flag.set("on", "true");
            flag.set("fallthrough", format!("{{\"variation\":{position}}}"));
        }
        Variation::Identifier(name) => {
            flag.set("state", "\"on\"");
            flag.set("defaultServe", serde_json::json!({"variation": name}).to_string());
        }
    }
    Ok(flag.to_string())
}

impl fmt::Display for Variation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => position.fmt(f),
            Self::Identifier(name) => write!(f, "`{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_both_vendors_have_one_variation() {
        for (flag, variation, expected) in [
            (
                r#"{"key":"a","on":false,"variations":[1,2],"rules":[{}],"targets":[{}],"fallthrough":{"rollout":{}},"new":1.50}"#,
                Variation::Position(1),
                r#"{"key":"a","on":true,"variations":[1,2],"rules":[],"targets":[],"fallthrough":{"variation":1},"new":1.50}"#,
            ),
            (
                r#"{"feature":"a","state":"off","variations":[{"identifier":"x"},{"identifier":"y"}],"defaultServe":{"distribution":{}},"variationToTargetMap":[{}]}"#,
                Variation::Identifier("y".to_owned()),
                r#"{"feature":"a","state":"on","variations":[{"identifier":"x"},{"identifier":"y"}],"defaultServe":{"variation":"y"},"variationToTargetMap":[]}"#,
            ),
        ] {
            assert_eq!(fix(flag, &variation).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn an_unknown_variation_is_an_error() {
        let flag = r#"{"key":"a","variations":[1,2]}"#;
        let error = fix(flag, &Variation::Position(2)).unwrap_err().to_string();
        assert!(error.contains("no variation 2"), "{error}");
        let flag = r#"{"feature":"a","variations":[{"identifier":"x"}]}"#;
        assert!(fix(flag, &Variation::Identifier("y".to_owned())).is_err());
        assert!(fix(flag, &Variation::Position(0)).is_err(), "a position of the other vendor");
    }
}
