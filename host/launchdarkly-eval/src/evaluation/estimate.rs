//! How long an evaluation may take, which decides where it runs.

use std::time::Duration;

use super::Ruleset;
use crate::model::Context;

/// Nanoseconds for a flag whose conditions are decided, its entry in the response included.
const FLAG: usize = 250;
/// Nanoseconds for a condition, or for a test whether a key is in a segment.
const CONDITION: usize = 25;
/// Nanoseconds per byte of context for looking up the attributes that flags refer to.
const BYTE: usize = 10;
/// Bytes of a text that a condition compares in a nanosecond. Hashing for a rollout takes a nanosecond per byte.
const COMPARED: usize = 4;

impl Ruleset {
    /// The approximate duration of an evaluation of all flags for `context`. Each condition is decided once at most.
    #[must_use]
    pub fn estimate(&self, context: &Context) -> Duration {
        self.estimate_some(self.flag_count(), context)
    }

    /// The same for `flags` of the flags.
    #[must_use]
    pub fn estimate_some(&self, flags: usize, context: &Context) -> Duration {
        let text = context.longest_text();
        let conditions = self.symbols().condition_count() + self.segment_count();
        let conditions = conditions.saturating_mul(flags) / self.flag_count().max(1);
        let conditions = conditions.saturating_mul(CONDITION + text / COMPARED);
        let flags = flags.saturating_mul(FLAG + text);
        nanoseconds(context.size().saturating_mul(BYTE).saturating_add(conditions).saturating_add(flags))
    }
}

/// The approximate duration of hashing the keys of `context`.
#[must_use]
pub fn estimate_hashes(context: &Context) -> Duration {
    nanoseconds(context.size())
}

fn nanoseconds(count: usize) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use serde_json::value::RawValue;

    use super::*;
    use crate::model::Flag;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn context(key: usize, attributes: usize) -> Context {
        let more = (0..attributes).map(|it| format!(",\"a{it}\":[{it}]")).collect::<String>();
        let json = format!("{{\"kind\":\"user\",\"key\":\"{}\"{more}}}", "k".repeat(key));
        Context::parse(json.as_bytes()).unwrap()
    }

    /// Flags with five rules of three conditions each.
    fn ruleset(flags: usize) -> Ruleset {
        let flag = |index: usize| {
            let clause =
                |it: usize| json!({"attribute": format!("a{it}"), "op": "in", "values": [index], "negate": false});
            let rule =
                |it: usize| json!({"id": "r", "variation": 0, "clauses": (it..it + 3).map(clause).collect::<Vec<_>>()});
            let rules: Vec<_> = (0..5).map(rule).collect();
            let body = json!({
                "key": format!("f{index:05}"), "version": 1, "on": true, "rules": rules, "variations": [true],
                "salt": "s", "fallthrough": {"variation": 0},
            });
            let body = RawValue::from_string(body.to_string()).unwrap();
            Arc::new(Flag::parse(&format!("f{index:05}"), &body).unwrap())
        };
        Ruleset::build(None, &(0..flags).map(flag).collect::<Vec<_>>(), &[])
    }

    #[test]
    fn ordinary_evaluations_are_short_and_those_of_long_keys_or_wide_contexts_are_not() {
        let (few, many) = (ruleset(10), ruleset(1000));
        for (ruleset, key, attributes, is_short) in [
            (&few, 36, 10, true),
            (&many, 36, 10, true),
            (&few, 4000, 10, true),
            (&many, 4000, 10, false),
            (&few, 4 << 20, 0, false),
            (&few, 36, 100_000, false),
            (&ruleset(10_000), 36, 10, false),
        ] {
            let estimate = ruleset.estimate(&context(key, attributes));
            assert_eq!(estimate <= MILLISECOND, is_short, "{key} {attributes}: {estimate:?}");
        }
        assert!(many.estimate_some(1, &context(4000, 10)) < many.estimate(&context(4000, 10)) / 4);
    }

    #[test]
    fn the_longest_text_is_found_anywhere() {
        for context in [
            r#"{"kind":"user","key":"12345678"}"#,
            r#"{"kind":"user","key":"a","name":"12345678"}"#,
            r#"{"kind":"user","key":"a","x":["b",{"y":"12345678"}]}"#,
            r#"{"kind":"multi","user":{"key":"a"},"org":{"key":"12345678"}}"#,
            r#"{"key":"a","secondary":"12345678"}"#,
            r#"{"kind":"orgs-all","key":"a"}"#,
        ] {
            assert_eq!(Context::parse(context.as_bytes()).unwrap().longest_text(), 8, "{context}");
        }
    }
}
