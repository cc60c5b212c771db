//! State of an environment for operators.

use std::sync::atomic::Ordering;

use yardarm_core::report::EnvironmentReport;

use crate::environments::HarnessEnvironment;

/// What operators are shown of one environment.
pub(crate) fn of(environment: &HarnessEnvironment) -> EnvironmentReport {
    let snapshot = environment.data.snapshot();
    let items = snapshot.as_ref().map(|it| it.data().items());
    let phase = if snapshot.is_some() { "ready" } else { "starting" };
    EnvironmentReport {
        is_behind: environment.is_behind.load(Ordering::Relaxed),
        sequence: snapshot.as_ref().map_or(0, |it| it.seq()),
        flags: items.map_or(0, |it| it.flags.len()),
        segments: items.map_or(0, |it| it.segments.len()),
        recent_changes: environment.recent.all(),
        events: Some(environment.metrics.report().into()),
        ..EnvironmentReport::of(&environment.label, phase, &environment.status)
    }
}
