//! Drops or hashes private attributes of LaunchDarkly analytics events before they are forwarded.
//!
//! SDKs can hide private attributes, but every team has to configure this. The plugin does it in one place, for all of
//! them: the attributes that the operator names are removed, or replaced by a keyed hash that still distinguishes
//! values, and unwanted kinds of events are dropped entirely. The rest of an event is forwarded unchanged.

mod config;
mod context;
mod event;
mod pattern;

use yardarm_plugin::{Event, EventFilter, Plugin, PluginError, Request, Result, Verdict, matches};

use crate::config::{Config, Rules};

/// The plugin.
struct EventRedactor(Rules);

impl Plugin for EventRedactor {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Rules::new(config).map(Self)
    }
}

impl EventFilter for EventRedactor {
    fn filter(&self, request: &dyn Request, event: &Event) -> Result<Verdict> {
        let Self(rules) = self;
        if rules.drop_kinds.iter().any(|pattern| matches(pattern, event.kind())) {
            return Ok(Verdict::Drop);
        }
        if !rules.redact() {
            return Ok(Verdict::Keep);
        }
        // Events in another format would pass unredacted, which a redactor must not allow.
        if request.vendor() == "harness" {
            let text = "attribute rules are for events of LaunchDarkly; bind the plugin to its environments only";
            return Err(PluginError::invalid_input(text));
        }
        Ok(event::redact(rules, event.kind(), event.body()?)?.map_or(Verdict::Keep, Verdict::replace))
    }
}

yardarm_plugin::export!(EventRedactor: event_filter);
