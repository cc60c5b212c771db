//! Hides staged flags where they are not released.
//!
//! Flags whose keys match a pattern are staged: they are hidden until they are listed as released to an environment. Bound to
//! `payload-transform` the rule applies to all SDKs; bound to `evaluation-transform` to the kinds of SDK that the binding
//! names, and never to server-side ones.

use std::collections::BTreeMap;

use serde::Deserialize;
use yardarm_plugin::{
    Context, Edit, EvaluationTransform, Items, PayloadTransform, Plugin, Request, Result, ResultEdit, Results, matches,
};

/// The vendor's name for a flag.
const FLAG: &str = "flag";

/// The configuration. All texts are patterns, in which `*` and `?` match any text and any character.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Staged flags.
    staged: Vec<String>,
    /// Released flags by environment, which is a name or `vendor/name`.
    #[serde(default)]
    released: BTreeMap<String, Vec<String>>,
}

/// The plugin.
struct StagedFlags(Config);

impl Plugin for StagedFlags {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }
}

impl PayloadTransform for StagedFlags {
    fn transform_payload(&self, items: &dyn Items) -> Result<Vec<Edit>> {
        let is_hidden = self.hidden_in(&items.vendor(), &items.environment());
        let changed = items.changed();
        let hidden = changed.iter().zip(0..).filter(|(head, _)| head.kind == FLAG && is_hidden(&head.key));
        Ok(hidden.filter(|(head, _)| !head.is_deleted).map(|(_, index)| Edit::drop(index)).collect())
    }
}

impl EvaluationTransform for StagedFlags {
    fn transform_evaluation(
        &self,
        request: &dyn Request,
        _: &dyn Context,
        evaluated: &dyn Results,
    ) -> Result<Vec<ResultEdit>> {
        let is_hidden = self.hidden_in(&request.vendor(), &request.environment());
        let flags = evaluated.flags();
        let hidden = flags.iter().zip(0..).filter(|(key, _)| is_hidden(key));
        Ok(hidden.map(|(_, index)| ResultEdit::drop(index)).collect())
    }
}

impl StagedFlags {
    /// Returns the rule of an environment.
    fn hidden_in<'a>(&'a self, vendor: &str, environment: &str) -> impl Fn(&str) -> bool + use<'a> {
        let full = format!("{vendor}/{environment}");
        let here = self.0.released.iter().filter(|(it, _)| matches(it, environment) || matches(it, &full));
        let released: Vec<_> = here.flat_map(|(_, flags)| flags).collect();
        move |key| {
            let is_staged = self.0.staged.iter().any(|pattern| matches(pattern, key));
            is_staged && !released.iter().any(|pattern| matches(pattern, key))
        }
    }
}

yardarm_plugin::export!(StagedFlags: payload_transform, evaluation_transform);

#[cfg(test)]
mod tests {
    use yardarm_plugin::from_config;
    use yardarm_plugin::testing::{Evaluated, Payload, TestContext, TestRequest};

    use super::*;

    fn plugin() -> StagedFlags {
        let config =
            r#"{"staged": ["next-*", "trial"], "released": {"dev*": ["*"], "harness/eu": ["next-a", "trial"]}}"#;
        from_config(config).unwrap()
    }

    #[test]
    fn staged_flags_are_hidden_until_they_are_released() {
        for (vendor, environment, expected) in [
            ("launchdarkly", "production", &["plain"][..]),
            ("launchdarkly", "development", &["next-a", "next-b", "plain", "trial"]),
            ("harness", "eu", &["next-a", "plain", "trial"]),
            ("launchdarkly", "eu", &["plain"]),
        ] {
            let keys = ["next-a", "next-b", "plain", "trial"];
            let items = keys.iter().fold(Payload::default(), |it, key| it.with_changed(FLAG, key, "{}"));
            let items = items.of(vendor, environment).with_deleted(FLAG, "next-c", 2);
            let edits = plugin().transform_payload(&items).unwrap();
            let served: Vec<_> = items.edited(&edits).into_iter().map(|(_, key, _)| key).collect();
            assert_eq!(served, expected, "{vendor}/{environment}");

            let evaluated = keys.iter().fold(Evaluated::default(), |it, key| it.flag(key, "1"));
            let request = TestRequest::default().with_vendor(vendor).with_environment(environment);
            let edits = plugin().transform_evaluation(&request, &TestContext::default(), &evaluated).unwrap();
            let sent: Vec<_> = evaluated.edited(&edits).into_iter().map(|(key, _)| key).collect();
            assert_eq!(sent, expected, "{vendor}/{environment}");
        }
    }

    #[test]
    fn segments_are_never_hidden() {
        let items = Payload::default().with_changed("segment", "next-a", "{}").of("launchdarkly", "production");
        assert_eq!(plugin().transform_payload(&items), Ok(Vec::new()));
    }
}
