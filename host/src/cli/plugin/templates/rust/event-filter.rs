//! Drops events of some kinds.

use yardarm_plugin::{Event, EventFilter, Plugin, Request, Result, Verdict};

/// The configuration, as under `plugin.config` in the binding file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    drop_kinds: Vec<String>,
}

struct Filter(Config);

impl Plugin for Filter {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }
}

impl EventFilter for Filter {
    fn filter(&self, _: &dyn Request, event: &Event) -> Result<Verdict> {
        let is_dropped = event.kind.as_ref().is_some_and(|kind| self.0.drop_kinds.contains(kind));
        Ok(if is_dropped { Verdict::Drop } else { Verdict::Keep })
    }
}

yardarm_plugin::export!(Filter: event_filter);
