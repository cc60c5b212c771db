//! State of an environment for operators.

use std::sync::atomic::Ordering;

use yardarm_core::report::EnvironmentReport;

use crate::environments::{LdEnvironment, Phase};

/// What operators are shown of one environment.
pub(crate) fn of(environment: &LdEnvironment) -> EnvironmentReport {
    let snapshot = environment.data.snapshot();
    let items = snapshot.as_ref().map(|it| it.data().items());
    let phase = match environment.phase() {
        Phase::Starting => "starting",
        Phase::Empty => "empty",
        Phase::Rejected => "rejected",
        Phase::Ready => "ready",
    };
    EnvironmentReport {
        is_behind: environment.is_behind.load(Ordering::Relaxed),
        sequence: snapshot.as_ref().map_or(0, |it| it.seq()),
        flags: items.map_or(0, |it| it.flags.iter().filter(|flag| !flag.is_deleted()).count()),
        segments: items.map_or(0, |it| it.segments.iter().filter(|segment| !segment.is_deleted()).count()),
        recent_changes: environment.recent.all(),
        events: environment.events.port().map(|it| it.report().into()),
        ..EnvironmentReport::of(&environment.label, phase, &environment.status)
    }
}
