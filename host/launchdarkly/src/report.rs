//! State of an environment for operators.

use yardarm_core::report::{EnvironmentReport, ErrorReport};

use crate::environments::{LdEnvironment, Phase};

/// What operators are shown of one environment.
pub(crate) fn of(environment: &LdEnvironment) -> EnvironmentReport {
    let report = environment.status.report();
    let snapshot = environment.data.snapshot();
    let items = snapshot.as_ref().map(|it| it.data().items());
    EnvironmentReport {
        vendor: environment.label.vendor(),
        name: environment.label.name().to_string(),
        phase: match environment.phase() {
            Phase::Starting => "starting",
            Phase::Empty => "empty",
            Phase::Rejected => "rejected",
            Phase::Ready => "ready",
        },
        connection: report.connection.word(),
        since_ms: report.since_ms,
        last_error: report.last_error.map(ErrorReport::from),
        is_stale: report.is_stale,
        is_behind: environment.is_behind.load(std::sync::atomic::Ordering::Relaxed),
        last_message_ms: report.last_message_ms,
        sequence: snapshot.as_ref().map_or(0, |it| it.seq()),
        flags: items.map_or(0, |it| it.flags.iter().filter(|flag| !flag.is_deleted()).count()),
        segments: items.map_or(0, |it| it.segments.iter().filter(|segment| !segment.is_deleted()).count()),
        recent_changes: environment.recent.all(),
        events: environment.events.port().map(|it| it.report().into()),
    }
}
