//! Reports on environments, for operators.

use yardarm_vendor::report::EnvironmentReport;

use super::environment::HarnessEnvironment;
use super::index::Environments;

/// Environments and configured keys without data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .lacks.join(", "))]
pub struct Incomplete {
    /// What is missing, as texts for operators.
    pub lacks: Vec<String>,
    /// Whether waiting is unlikely to help, because upstream rejects a key.
    pub is_final: bool,
}

/// Returns the report on one environment.
pub(crate) fn of(environment: &HarnessEnvironment) -> EnvironmentReport {
    let snapshot = environment.data.snapshot();
    let items = snapshot.as_ref().map(|it| it.data().items());
    let phase = if snapshot.is_some() { "ready" } else { "starting" };
    EnvironmentReport {
        skipped_items: environment.skipped.count(),
        flags: items.map_or(0, |it| it.flags.len()),
        segments: items.map_or(0, |it| it.segments.len()),
        events: Some(environment.metrics.report().into()),
        ..environment.report(phase)
    }
}

/// Checks that there are flags for every configured key and, if they are polled, targets.
///
/// # Errors
/// Lists what is missing.
pub(crate) fn completeness(environments: &Environments, polls_targets: bool) -> Result<(), Incomplete> {
    let mut incomplete = Incomplete { lacks: Vec::new(), is_final: false };
    let mut reports = environments.pending().reports();
    for environment in environments.all() {
        if environment.data.has_data() && polls_targets && !environment.targets.are_polled() {
            incomplete.lacks.push(format!("`{}`: its targets have not been read", environment.label.name()));
        }
        reports.push(of(&environment));
    }
    for report in reports.iter().filter(|it| it.phase != "ready") {
        let problem = report.last_error.as_ref().map_or("no flags yet", |it| &it.message);
        incomplete.lacks.push(format!("`{}`: {problem}", report.name));
        incomplete.is_final |= report.phase == "rejected";
    }
    if reports.is_empty() {
        incomplete.lacks.push("no environment".to_owned());
    }
    if incomplete.lacks.is_empty() { Ok(()) } else { Err(incomplete) }
}
