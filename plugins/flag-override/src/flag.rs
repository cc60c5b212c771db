//! Rewrites a LaunchDarkly flag so that it has one value for all contexts.

use yardarm_plugin::Result;
use yardarm_plugin::json::{self, Object};

/// Properties that could result in another value than the fallthrough.
const WAYS_AROUND: [&str; 4] = ["prerequisites", "targets", "contextTargets", "rules"];

/// Rewrites a flag so that every SDK evaluates it to `value`: targeting is on, and the only rule is a fallthrough to
/// the variation with this value, which is added if there is none. Everything else is unchanged, so that the flag keeps
/// its version, its tracking and its client-side availability. Returns `None` if the flag is deleted.
///
/// Targeting is on rather than off, because for flags that have this one as a prerequisite, a flag that is off counts
/// as failed, whatever its value.
pub(crate) fn pin(flag: &str, value: &str) -> Result<Option<String>> {
    let mut flag = Object::parse(flag)?;
    if flag.get("deleted") == Some("true") {
        return Ok(None);
    }
    let variations = flag.get("variations").filter(|text| *text != "null").unwrap_or("[]").to_owned();
    let mut variations = json::elements(&variations)?;
    let mut index = None;
    for (at, variation) in variations.iter().enumerate() {
        if json::same(variation, value)? {
            index = Some(at);
            break;
        }
    }
    let index = index.unwrap_or(variations.len());
    if index == variations.len() {
        // Appended, so that the indexes used by rules and rollouts do not change.
        variations.push(value);
        flag.set("variations", json::array(variations));
    }
    flag.set("on", "true");
    for name in WAYS_AROUND {
        if flag.get(name).is_some() {
            flag.set(name, "[]");
        }
    }
    flag.set("fallthrough", format!("{{\"variation\":{index}}}"));
    Ok(Some(flag.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_value_is_found_and_a_new_one_added() {
        let flag = r#"{"key":"a","version":7,"on":false,"variations":[true, false,{"b":1.50}],"offVariation":null,"fallthrough":{},"salt":"s","new":1e2}"#;
        for (value, variations, index) in [
            ("false", r#"[true, false,{"b":1.50}]"#, 1),
            (r#"{ "b": 1.5 }"#, r#"[true, false,{"b":1.50}]"#, 2),
            ("\"x\"", r#"[true,false,{"b":1.50},"x"]"#, 3),
        ] {
            let expected = format!(
                r#"{{"key":"a","version":7,"on":true,"variations":{variations},"offVariation":null,"fallthrough":{{"variation":{index}}},"salt":"s","new":1e2}}"#
            );
            assert_eq!(pin(flag, value).unwrap(), Some(expected), "{value}");
        }
    }

    #[test]
    fn no_rule_bypasses_the_pinned_value() {
        let flag = r#"{"key":"a","prerequisites":[{"key":"b"}],"targets":[1],"contextTargets":[2],"rules":[3],"variations":[1],"on":true}"#;
        let expected = r#"{"key":"a","prerequisites":[],"targets":[],"contextTargets":[],"rules":[],"variations":[1],"on":true,"fallthrough":{"variation":0}}"#;
        assert_eq!(pin(flag, "1").unwrap().as_deref(), Some(expected));
    }

    #[test]
    fn missing_properties_are_added() {
        let expected = r#"{"key":"a","variations":[1],"on":true,"fallthrough":{"variation":0}}"#;
        assert_eq!(pin(r#"{"key":"a"}"#, "1").unwrap().as_deref(), Some(expected));
        assert_eq!(pin(r#"{"key":"a","variations":null}"#, "1").unwrap().as_deref(), Some(expected));
    }

    #[test]
    fn a_deleted_flag_stays_deleted() {
        assert_eq!(pin(r#"{"key":"a","version":9,"deleted":true}"#, "1"), Ok(None));
        assert!(pin(r#"{"key":"a","version":9,"deleted":false}"#, "1").unwrap().is_some());
        assert!(pin("[]", "1").is_err());
    }
}
