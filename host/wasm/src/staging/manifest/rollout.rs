//! The key `rollout`: a word, or a table.

use std::time::Duration;

use super::reader::{Faults, Section};
use crate::vocabulary::{Bind, Hook, LONGEST_PROMOTION_S, RolloutMode, RolloutPolicy};

const KEY: &str = "plugin.rollout";

/// Reads how new versions are rolled out. `binds` are the bindings of the same file.
pub(super) fn read(value: &toml::Value, binds: &[Bind], faults: &mut Faults) -> RolloutPolicy {
    let (mode, promote_after) = match value {
        toml::Value::String(word) => match &**word {
            "full" => (RolloutMode::Full, None),
            "shadow" => (RolloutMode::Shadow, None),
            _ => return refuse(faults),
        },
        toml::Value::Table(table) => {
            let mut section = Section::new(KEY, table, faults);
            let shadow = section.choice("mode", &[("shadow", RolloutMode::Shadow)]);
            let percent = section.integer("percent", 1, 99).and_then(|it| u8::try_from(it).ok());
            let promote_after = section.integer("promote_after_s", 1, LONGEST_PROMOTION_S);
            section.end();
            let canary = percent.map(|percent| RolloutMode::Canary { percent });
            let is_one = table.contains_key("mode") != table.contains_key("percent");
            if !is_one {
                return refuse(faults);
            }
            let promote_after = promote_after.and_then(|it| u64::try_from(it).ok()).map(Duration::from_secs);
            (shadow.or(canary).unwrap_or_default(), promote_after)
        }
        _ => return refuse(faults),
    };
    if matches!(mode, RolloutMode::Canary { .. }) && binds.iter().any(|bind| bind.hook == Hook::RouteResolver) {
        let text = "a `route-resolver` is called before the caller is known, so that callers cannot be divided; use \
                    `\"shadow\"` instead of `percent`";
        faults.add(KEY, text);
    }
    RolloutPolicy { mode, promote_after }
}

fn refuse(faults: &mut Faults) -> RolloutPolicy {
    let text = "must be `\"full\"`, `\"shadow\"`, or a table with either `mode = \"shadow\"` or `percent`, and perhaps \
                `promote_after_s`";
    faults.add(KEY, text);
    RolloutPolicy::default()
}
