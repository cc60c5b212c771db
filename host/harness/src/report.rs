//! State of an environment for operators.

use yardarm_core::report::{EnvironmentReport, ErrorReport};

use crate::environments::HarnessEnvironment;

/// What operators are shown of one environment.
pub(crate) fn of(environment: &HarnessEnvironment) -> EnvironmentReport {
    let report = environment.status.report();
    let snapshot = environment.data.snapshot();
    let items = snapshot.as_ref().map(|it| it.data().items());
    EnvironmentReport {
        vendor: environment.label.vendor(),
        name: environment.label.name().to_string(),
        phase: if snapshot.is_some() { "ready" } else { "starting" },
        connection: report.connection.word(),
        since_ms: report.since_ms,
        last_error: report.last_error.map(ErrorReport::from),
        is_stale: report.is_stale,
        is_behind: environment.is_behind.load(std::sync::atomic::Ordering::Relaxed),
        last_message_ms: report.last_message_ms,
        sequence: snapshot.as_ref().map_or(0, |it| it.seq()),
        flags: items.map_or(0, |it| it.flags.len()),
        segments: items.map_or(0, |it| it.segments.len()),
        recent_changes: environment.recent.all(),
        events: Some(environment.metrics.report().into()),
    }
}
