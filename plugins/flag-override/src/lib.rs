//! Pins or hides flags by environment, as configured by the operator.
//!
//! The binding file decides where the plugin applies: bound to `payload-transform` it rewrites flag data, so that all
//! SDKs see the same; bound to `evaluation-transform` it edits the results of SDKs that do not evaluate themselves, and
//! does not affect server-side SDKs. In both cases it reads only the configured flags from the host.

mod flag;
mod overrides;

use yardarm_plugin::{
    Context, Edit, EvaluationTransform, Items, PayloadTransform, Plugin, Request, Result, ResultEdit, Results, log,
};

use crate::overrides::{Config, Overrides};

/// The vendor's name for a flag.
const FLAG: &str = "flag";

/// The plugin.
struct FlagOverride(Config);

impl Plugin for FlagOverride {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        config.check()?;
        Ok(Self(config))
    }
}

impl PayloadTransform for FlagOverride {
    fn transform_payload(&self, items: &dyn Items) -> Result<Vec<Edit>> {
        let overrides = self.0.of(&items.vendor(), &items.environment());
        let mut edits = Vec::new();
        let changed = items.changed();
        let is_deleted = |index: u32| changed.get(index as usize).is_some_and(|head| head.is_deleted);
        let find = |key: &str| items.find(FLAG, key).filter(|index| !is_deleted(*index));
        let flags = || changed.iter().map(|head| if head.kind == FLAG { head.key.clone() } else { String::new() });
        let hidden = hidden(&overrides, find, flags);
        for (key, value) in overrides.pins() {
            let Some(index) = find(key).filter(|index| !hidden.contains(index)) else { continue };
            match flag::pin(&items.get(index).ok_or_else(overrides::no_flag_data)?, value)? {
                Some(json) => edits.push(Edit::replace(index, json)),
                None => log::debug!("flag `{key}` is deleted, nothing to pin"),
            }
        }
        edits.extend(hidden.into_iter().map(Edit::drop));
        Ok(edits)
    }
}

impl EvaluationTransform for FlagOverride {
    fn transform_evaluation(
        &self,
        request: &dyn Request,
        _: &dyn Context,
        evaluated: &dyn Results,
    ) -> Result<Vec<ResultEdit>> {
        let overrides = self.0.of(&request.vendor(), &request.environment());
        let hidden = hidden(&overrides, |key| evaluated.find(key), || evaluated.flags().into_iter());
        let pinned = overrides.pins().filter_map(|(key, value)| Some((evaluated.find(key)?, value)));
        let pinned = pinned.filter(|(index, _)| !hidden.contains(index));
        let mut edits: Vec<_> = pinned.map(|(index, value)| ResultEdit::replace(index, value)).collect();
        edits.extend(hidden.iter().copied().map(ResultEdit::drop));
        Ok(edits)
    }
}

/// Returns the positions of the flags to hide. Plain keys are looked up; all keys are listed only if there is a
/// pattern.
fn hidden<L: Iterator<Item = String>>(
    overrides: &Overrides<'_>,
    find: impl Fn(&str) -> Option<u32>,
    list: impl Fn() -> L,
) -> Vec<u32> {
    let mut found: Vec<u32> = overrides.hidden_keys().filter_map(find).collect();
    if overrides.has_patterns() {
        found.extend(list().zip(0..).filter(|(key, _)| overrides.hides(key)).map(|(_, index)| index));
    }
    found.sort_unstable();
    found.dedup();
    found
}

yardarm_plugin::export!(FlagOverride: payload_transform, evaluation_transform);

#[cfg(test)]
mod tests {
    use yardarm_plugin::testing::{Evaluated, Payload, TestContext, TestRequest};
    use yardarm_plugin::{PluginError, from_config};

    use super::*;

    const CONFIG: &str = r#"{"environments": {
        "prod*": {"pin": {"checkout": "blue", "absent": 1}, "hide": ["internal-*", "secret"]},
        "prod-eu": {"pin": {"checkout": {"a": 1.50}}},
        "launchdarkly/test": {"pin": {"secret": true}}
    }}"#;

    fn plugin() -> FlagOverride {
        from_config(CONFIG).unwrap()
    }

    fn results(environment: &str) -> Vec<(String, String)> {
        let evaluated =
            Evaluated::default().flag("internal-a", "1").flag("checkout", "2").flag("secret", "3").flag("x", "4");
        let (request, context) = (TestRequest::default().with_environment(environment), TestContext::default());
        evaluated.edited(&plugin().transform_evaluation(&request, &context, &evaluated).unwrap())
    }

    #[test]
    fn results_are_pinned_and_hidden_by_environment() {
        let text = |flag: &str, value: &str| (flag.to_owned(), value.to_owned());
        assert_eq!(results("prod"), [text("checkout", "\"blue\""), text("x", "4")]);
        assert_eq!(results("prod-eu"), [text("checkout", r#"{"a": 1.50}"#), text("x", "4")]);
        let expected = [text("internal-a", "1"), text("checkout", "2"), text("secret", "true"), text("x", "4")];
        assert_eq!(results("test"), expected);
        assert_eq!(results("other")[2], text("secret", "3"));
    }

    #[test]
    fn flags_are_pinned_and_hidden_in_the_payload() {
        let flag = r#"{"key":"checkout","version":7,"on":true,"variations":["red","blue"],"offVariation":0}"#;
        let items = Payload::default()
            .with_changed("segment", "internal-a", r#"{"key":"internal-a","version":1}"#)
            .with_changed("flag", "internal-a", r#"{"key":"internal-a","version":1}"#)
            .with_changed("flag", "checkout", flag)
            .with_changed("segment", "secret", r#"{"key":"secret","version":1}"#)
            .with_changed("flag", "secret", r#"{"key":"secret","version":1}"#);
        let items =
            items.with_deleted("flag", "internal-b", 3).with_deleted("flag", "absent", 4).of("launchdarkly", "prod");
        let edits = plugin().transform_payload(&items).unwrap();
        let served = items.edited(&edits);
        let names: Vec<_> = served.iter().map(|(kind, key, _)| format!("{kind} {key}")).collect();
        assert_eq!(names, ["segment internal-a", "flag checkout", "segment secret"]);
        let expected = r#"{"key":"checkout","version":7,"on":true,"variations":["red","blue"],"offVariation":0,"fallthrough":{"variation":1}}"#;
        assert_eq!(served[1].2, expected);
        assert_eq!(plugin().transform_payload(&items), Ok(edits), "the same input gives the same edits");
        assert_eq!(plugin().transform_payload(&items.of("launchdarkly", "other")), Ok(Vec::new()));
    }

    #[test]
    fn a_missing_grant_is_a_failure() {
        /// Flags whose text is withheld.
        struct Sealed;

        impl Items for Sealed {
            fn vendor(&self) -> String {
                "launchdarkly".to_owned()
            }

            fn environment(&self) -> String {
                "prod-eu".to_owned()
            }

            fn changed(&self) -> Vec<yardarm_plugin::ItemHead> {
                Vec::new()
            }

            fn get(&self, _: u32) -> Option<String> {
                None
            }

            fn list(&self, _: &str) -> Vec<String> {
                Vec::new()
            }

            fn find(&self, _: &str, _: &str) -> Option<u32> {
                Some(0)
            }

            fn other(&self, _: &str, _: &str) -> Option<String> {
                None
            }
        }

        let plugin: FlagOverride = from_config(r#"{"environments": {"*": {"pin": {"a": 1}}}}"#).unwrap();
        let Err(PluginError::InvalidInput(text)) = plugin.transform_payload(&Sealed) else { panic!() };
        assert!(text.contains("`flag-data`"), "{text}");
    }
}
