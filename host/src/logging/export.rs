//! The second output of the log: lines with their fields, for an exporter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use serde_json::Value;
use tracing::Metadata;

/// The exporter in use.
static EXPORT: ArcSwapOption<Box<dyn Export>> = ArcSwapOption::const_empty();
/// Whether there is one. Cheaper to read than the exporter.
static IS_EXPORTED: AtomicBool = AtomicBool::new(false);

/// Receives the lines of the log. It must neither wait nor log.
pub(crate) trait Export: Send + Sync {
    fn export(&self, line: ExportedLine<'_>);
}

/// A line of the log.
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only exporters read lines"))]
pub(crate) struct ExportedLine<'a> {
    pub(crate) metadata: &'static Metadata<'static>,
    /// The fields of the line and of the spans around it; the nearest value of a name counts.
    pub(crate) fields: &'a mut dyn Iterator<Item = (&'static str, Value)>,
}

/// Replaces the exporter; `None` exports nothing more.
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only exporters are set"))]
pub(crate) fn set_export(export: Option<Box<dyn Export>>) {
    IS_EXPORTED.store(export.is_some(), Ordering::Relaxed);
    EXPORT.store(export.map(Arc::new));
}

/// Exports a line, if there is an exporter.
pub(super) fn export(line: impl FnOnce(&dyn Export)) {
    if IS_EXPORTED.load(Ordering::Relaxed)
        && let Some(export) = &*EXPORT.load()
    {
        line(&***export);
    }
}
