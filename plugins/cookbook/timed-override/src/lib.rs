//! Serves one variation of a flag until a date.
//!
//! Flag data is transformed when it changes, not when time passes. So a background task looks at the clock and publishes the
//! numbers of the overrides that are in force; when these change, the gateway transforms all flag data again.

mod flag;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use yardarm_plugin::{
    Background, Edit, Items, PayloadTransform, Plugin, PluginError, Published, Result, clock, log, matches, shared,
};

use crate::flag::Variation;

/// The vendor's name for a flag.
const FLAG: &str = "flag";

/// The configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Of several overrides of one flag that are in force, the first counts.
    overrides: Vec<Override>,
}

/// An override of one flag.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    /// Key of the flag.
    flag: String,
    /// The variation that is served.
    variation: Variation,
    /// Names of environments, or patterns for names or `vendor/name`.
    environments: Vec<String>,
    /// When it begins; at once if absent.
    from: Option<Date>,
    /// When it ends.
    until: Date,
}

/// A date with time and offset, such as `2026-12-01T09:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Date(OffsetDateTime);

/// The plugin.
struct TimedOverride(Vec<Override>);

impl Plugin for TimedOverride {
    type Config = Config;

    fn new(Config { overrides }: Config) -> Result<Self> {
        match overrides.iter().position(|it| it.from.is_some_and(|from| from >= it.until)) {
            Some(at) => Err(PluginError::invalid_input(format_args!("`overrides[{at}]`: it ends before it begins"))),
            None => Ok(Self(overrides)),
        }
    }
}

impl Background for TimedOverride {
    fn refresh(&self) -> Result<Option<Published>> {
        let now = i64::try_from(clock::unix_ms() / 1_000).map_err(PluginError::internal)?;
        let in_force = self.0.iter().enumerate().filter(|(_, it)| it.is_in_force(now));
        Ok(Some(in_force.map(|(number, _)| (number.to_string(), Vec::new())).collect()))
    }
}

impl PayloadTransform for TimedOverride {
    fn transform_payload(&self, items: &dyn Items) -> Result<Vec<Edit>> {
        let (vendor, environment, changed) = (items.vendor(), items.environment(), items.changed());
        let mut edits = Vec::<(u32, Edit)>::new();
        for number in shared::keys() {
            let number: usize = number.parse().map_err(PluginError::internal)?;
            let Some(it) = self.0.get(number).filter(|it| it.covers(&vendor, &environment)) else { continue };
            let is_there = |index: &u32| changed.get(*index as usize).is_some_and(|head| !head.is_deleted);
            let Some(index) = items.find(FLAG, &it.flag).filter(is_there) else { continue };
            if edits.iter().any(|(edited, _)| *edited == index) {
                continue;
            }
            let no_data = || PluginError::invalid_input("no flag data: the plugin needs the grant `flag-data`");
            let flag = items.get(index).ok_or_else(no_data)?;
            match flag::fix(&flag, &it.variation) {
                Ok(json) => edits.push((index, Edit::replace(index, json))),
                // An error would keep all other flags as they are, too.
                Err(error) => log::warn!("flag `{}` is served unchanged: {error}", it.flag),
            }
        }
        Ok(edits.into_iter().map(|(_, edit)| edit).collect())
    }
}

impl Override {
    /// Returns whether the override is in force at a time in Unix seconds.
    fn is_in_force(&self, now: i64) -> bool {
        self.from.is_none_or(|from| from.0.unix_timestamp() <= now) && now < self.until.0.unix_timestamp()
    }

    fn covers(&self, vendor: &str, environment: &str) -> bool {
        let full = format!("{vendor}/{environment}");
        self.environments.iter().any(|pattern| matches(pattern, environment) || matches(pattern, &full))
    }
}

impl TryFrom<String> for Date {
    type Error = time::error::Parse;

    fn try_from(text: String) -> Result<Self, time::error::Parse> {
        OffsetDateTime::parse(&text, &Rfc3339).map(Self)
    }
}

yardarm_plugin::export!(
    TimedOverride: payload_transform, background;
    manifest = r#"{"grants": [
        {"grant": "clock", "why": "to know when an override ends"},
        {"grant": "flag-data", "why": "to change flags"}
    ]}"#,
);

#[cfg(test)]
mod tests {
    use yardarm_plugin::from_config;
    use yardarm_plugin::testing::{Payload, publish, set_time};

    use super::*;

    const CONFIG: &str = r#"{"overrides": [
        {"flag": "banner", "variation": 1, "environments": ["prod*"], "until": "2026-01-01T00:00:00Z"},
        {"flag": "banner", "variation": 0, "environments": ["*"],
         "from": "2025-12-31T23:00:00+01:00", "until": "2026-01-02T00:00:00Z"}
    ]}"#;
    const BANNER: &str = r#"{"key":"banner","version":7,"on":false,"variations":["a","b"],"rules":[{"id":"r"}]}"#;

    fn published_at(unix_s: u64) -> Vec<String> {
        set_time(unix_s * 1_000);
        let plugin: TimedOverride = from_config(CONFIG).unwrap();
        plugin.refresh().unwrap().unwrap().into_iter().map(|(number, _)| number).collect()
    }

    /// Returns the variation of the banner that is served while overrides are in force.
    fn served(environment: &str) -> Option<String> {
        let plugin: TimedOverride = from_config(CONFIG).unwrap();
        let items = Payload::default().with_changed(FLAG, "banner", BANNER).of("launchdarkly", environment);
        let edits = plugin.transform_payload(&items).unwrap();
        let [(_, _, json)] = items.edited(&edits).try_into().unwrap();
        let flag: serde_json::Value = serde_json::from_str(&json).unwrap();
        Some(flag["fallthrough"]["variation"].as_u64()?.to_string())
    }

    #[test]
    fn an_override_ends_by_itself() {
        let new_year = 1_767_225_600;
        assert_eq!(published_at(new_year - 7_201), ["0"]);
        assert_eq!(published_at(new_year - 7_200), ["0", "1"], "from 22:00 UTC");
        assert_eq!(published_at(new_year), ["1"]);
        assert_eq!(published_at(new_year + 86_400), [""; 0]);
    }

    #[test]
    fn the_first_override_in_force_counts() {
        assert_eq!(served("production"), None, "nothing is published");
        publish("1", "");
        assert_eq!(served("production").as_deref(), Some("0"));
        publish("0", "");
        assert_eq!(served("production").as_deref(), Some("1"));
        assert_eq!(served("test").as_deref(), Some("0"));
    }

    #[test]
    fn a_flag_without_the_variation_is_served_unchanged() {
        let plugin: TimedOverride = from_config(CONFIG).unwrap();
        publish("0", "");
        let items = Payload::default().with_changed(FLAG, "banner", r#"{"key":"banner","variations":["a"]}"#);
        assert_eq!(plugin.transform_payload(&items.of("launchdarkly", "production")), Ok(Vec::new()));
    }

    #[test]
    fn a_date_that_cannot_be_is_an_error() {
        let config = |from: &str, until: &str| {
            format!(
                r#"{{"overrides": [{{"flag": "a", "variation": 0, "environments": ["*"], "from": "{from}", "until": "{until}"}}]}}"#
            )
        };
        for (from, until, expected) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "`overrides[0]`: it ends before it begins"),
            ("2026-01-01T00:00:00Z", "2026-02-01", "`overrides[0].until`"),
            ("2026-02-30T00:00:00Z", "2027-01-01T00:00:00Z", "`overrides[0].from`"),
        ] {
            let Err(PluginError::InvalidInput(text)) = from_config::<TimedOverride>(&config(from, until)) else {
                panic!("{from} {until}")
            };
            assert!(text.starts_with(expected), "{text}");
        }
    }
}
