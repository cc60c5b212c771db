//! Which events are logged: by the filter of the process, and by levels of single environments in place of it (U148).

use std::collections::HashMap;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use super::fields::{FieldValue, Fields};
use super::format::ENVIRONMENT;

/// Beginning of the names of our own crates. Libraries write too much for the level of an environment.
const OWN: &str = "yardarm";

/// The filter of the process, and the levels of environments that have one.
pub(super) struct Levels {
    filter: EnvFilter,
    /// Levels by the label of an environment.
    environments: HashMap<String, LevelFilter>,
}

impl Levels {
    pub(super) fn new(filter: EnvFilter) -> Self {
        Self { filter, environments: HashMap::new() }
    }

    /// Replaces the filter of the process.
    pub(super) fn set_filter(&mut self, filter: EnvFilter) {
        self.filter = filter;
    }

    /// Replaces the levels of environments, given by their labels.
    pub(super) fn set_environments(&mut self, levels: HashMap<String, LevelFilter>) {
        self.environments = levels;
    }

    /// Whether the level of some environment may admit events of this kind.
    fn may_admit(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target().starts_with(OWN)
            && self.environments.values().any(|level| metadata.level() <= level)
    }

    /// Returns the level of the environment that an event is about.
    fn level_of<S: Subscriber + for<'a> LookupSpan<'a>>(
        &self,
        event: &Event<'_>,
        context: &Context<'_, S>,
    ) -> Option<LevelFilter> {
        let level = |label: &str| self.environments.get(label).copied();
        let mut own = OwnEnvironment(None);
        event.record(&mut own);
        if let Some(label) = own.0 {
            return level(&label);
        }
        // From the innermost span outwards: the nearest environment counts.
        let mut spans = context.event_scope(event).into_iter().flatten();
        let found = spans.find_map(|span| match span.extensions().get::<Fields>()?.get(ENVIRONMENT)? {
            FieldValue::Text(label) | FieldValue::Formatted(label) => Some(level(label)),
            FieldValue::Scalar(_) => None,
        });
        found.flatten()
    }
}

/// The environment that an event names itself. Its other fields are not formatted, because it may not be logged.
struct OwnEnvironment(Option<String>);

impl Visit for OwnEnvironment {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == ENVIRONMENT {
            self.0 = Some(format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == ENVIRONMENT {
            self.0 = Some(value.to_owned());
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Levels {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let interest = <EnvFilter as Layer<S>>::register_callsite(&self.filter, metadata);
        if self.may_admit(metadata) && interest.is_never() { Interest::sometimes() } else { interest }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        Layer::enabled(&self.filter, metadata, context) || self.may_admit(metadata)
    }

    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if self.environments.is_empty() || !metadata.target().starts_with(OWN) {
            return true;
        }
        match self.level_of(event, &context) {
            Some(level) => *metadata.level() <= level,
            None => Layer::enabled(&self.filter, metadata, context),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let of_filter = <EnvFilter as Layer<S>>::max_level_hint(&self.filter)?;
        Some(self.environments.values().copied().fold(of_filter, LevelFilter::max))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.filter.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        Layer::on_record(&self.filter, id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        Layer::on_enter(&self.filter, id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        Layer::on_exit(&self.filter, id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        Layer::on_close(&self.filter, id, context);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::format::Format;
    use super::super::log_layer::LogLayer;
    use super::*;

    /// Returns the messages that are logged with these levels of environments.
    fn logged(filter: &str, environments: &[(&str, LevelFilter)], events: impl FnOnce()) -> Vec<String> {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&written);
        let layer = LogLayer::new(Format::Plain, move |_, line: &str| {
            let message = line.split_whitespace().nth(2).unwrap_or_default().to_owned();
            sink.lock().push(message);
        });
        let mut levels = Levels::new(EnvFilter::builder().parse(filter).unwrap());
        levels.set_environments(environments.iter().map(|(label, level)| ((*label).to_owned(), *level)).collect());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(levels).with(layer), events);
        std::mem::take(&mut *written.lock())
    }

    fn events() {
        tracing::debug!("global-debug");
        tracing::info!("global-info");
        tracing::debug!(target: "library", "library-debug");
        for environment in ["acme/one", "acme/two"] {
            let span = tracing::error_span!("task", %environment);
            span.in_scope(|| {
                let name = environment.trim_start_matches("acme/");
                tracing::debug!("{name}-debug");
                tracing::info!("{name}-info");
                tracing::debug!(target: "library", "{name}-library");
            });
        }
        tracing::debug!(environment = %"acme/one", "field-debug");
    }

    #[test]
    fn u148_an_environment_can_be_more_verbose_or_quieter_than_the_process() {
        assert_eq!(logged("info", &[], events), ["global-info", "one-info", "two-info"]);
        let verbose = [("acme/one", LevelFilter::DEBUG)];
        assert_eq!(
            logged("info", &verbose, events),
            ["global-info", "one-debug", "one-info", "two-info", "field-debug"]
        );
        let quiet = [("acme/one", LevelFilter::ERROR)];
        assert_eq!(logged("info", &quiet, events), ["global-info", "two-info"]);
        let mixed = [("acme/one", LevelFilter::ERROR), ("acme/two", LevelFilter::DEBUG)];
        assert_eq!(logged("warn", &mixed, events), ["two-debug", "two-info"]);
    }
}
