//! Drops or hashes private attributes of LaunchDarkly analytics events before they leave.
//!
//! SDKs can keep attributes to themselves, if every team remembers to tell them. This plugin does it in one place,
//! for all of them: attributes that the operator names are taken out, or replaced by a keyed hash that still tells
//! one value from another, and kinds of events that nobody wants to send are dropped whole. Whatever else an event
//! holds goes on as it was written.

mod config;
mod context;
mod event;
mod pattern;

use yardarm_plugin::{BatchFacts, Event, EventFilter, Plugin, PluginError, Result, Verdict, matches};

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
    fn filter(&self, facts: &BatchFacts, event: &Event) -> Result<Verdict> {
        let Self(rules) = self;
        if rules.drop_kinds.iter().any(|pattern| matches(pattern, &event.kind)) {
            return Ok(Verdict::Drop);
        }
        if !rules.redact() {
            return Ok(Verdict::Keep);
        }
        // Events of another shape would pass untouched, which is the one thing a redactor must not do.
        if facts.vendor == "harness" {
            let text = "attribute rules are for events of LaunchDarkly; bind the plugin to its environments only";
            return Err(PluginError::invalid_input(text));
        }
        Ok(event::redact(rules, &event.kind, event.body()?)?.map_or(Verdict::Keep, Verdict::replace))
    }
}

yardarm_plugin::export!(EventRedactor: event_filter);
