//! Turns events into lines of the log. A line has the fields of the event and those of the spans around it, so that code
//! deep inside a task or request need not know for whom it works.

use std::time::SystemTime;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::export::{ExportedLine, export};
use super::fields::Fields;
use super::format::{Format, Line};

/// Writes events with the fields of their spans.
pub(super) struct LogLayer<W> {
    format: Format,
    write: W,
}

impl<W: Fn(Level, &str)> LogLayer<W> {
    /// Creates the layer; `write` receives whole lines and their levels.
    pub(super) fn new(format: Format, write: W) -> Self {
        Self { format, write }
    }
}

impl<S, W> Layer<S> for LogLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(Level, &str) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let mut line = Line::new(self.format, SystemTime::now(), event.metadata(), &own);
        // From the innermost span outwards: the nearest value of a name counts.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.add(fields);
            }
        }
        (self.write)(*event.metadata().level(), &line.finish());
        export(|exporter| {
            let mut fields = Fields::default();
            for span in context.event_scope(event).into_iter().flatten() {
                if let Some(outer) = span.extensions().get::<Fields>() {
                    fields.add_missing(outer);
                }
            }
            own.add_missing(&fields);
            let fields = &mut own.iter().map(|(name, value)| (name, value.to_json()));
            exporter.export(ExportedLine { metadata: event.metadata(), fields });
        });
    }
}
