//! State of an environment for operators.

use std::time::Duration;

use yardarm_core::time::unix_ms;
use yardarm_store::Trouble;
use yardarm_vendor::report::{BigSegmentReport, EnvironmentReport, EventReport, StoreReport};

use super::{LdEnvironment, Phase};
use crate::store::{EnvironmentStore, advice};

/// The report of one environment for operators.
pub(crate) fn report(environment: &LdEnvironment, stale_after: Duration) -> EnvironmentReport {
    let snapshot = environment.data.snapshot();
    let items = snapshot.as_ref().map(|it| it.data().items());
    let phase = match environment.phase() {
        Phase::Starting => "starting",
        Phase::Empty => "empty",
        Phase::Rejected => "rejected",
        Phase::Ready => "ready",
    };
    EnvironmentReport {
        flags: items.map_or(0, |it| it.flags.live_len()),
        segments: items.map_or(0, |it| it.segments.live_len()),
        events: environment
            .events
            .port()
            .map(|it| EventReport { on_disk_bytes: it.on_disk_bytes(), ..it.report().into() }),
        store: environment.store.as_ref().map(|it| store(it)),
        big_segments: environment.store.as_ref().and_then(|it| big_segments(it, stale_after)),
        role: environment.role.as_ref().map(|it| it.borrow().as_str()),
        ..environment.base.report(phase)
    }
}

/// `available`, and all kinds of failures.
const STATES: &[&str] = &{
    let mut states = ["available"; Trouble::ALL.len() + 1];
    let mut index = 0;
    while index < Trouble::ALL.len() {
        states[index + 1] = Trouble::ALL[index].as_str();
        index += 1;
    }
    states
};

fn store(store: &EnvironmentStore) -> StoreReport {
    let (place, report) = (store.place(), store.status.report());
    StoreReport {
        database: place.database,
        server: place.server.to_string(),
        prefix: place.prefix.to_string(),
        table: place.table.to_string(),
        state: report.outage.as_ref().map_or("available", |it| it.trouble.as_str()),
        states: STATES,
        writes: report.writes,
        failures: report.failures,
        since_ms: report.since_ms,
        advice: report.outage.as_ref().map(|it| advice(place.database, it.trouble)),
        last_answer: report.outage.map(|it| it.answer.to_string()),
    }
}

/// `None` until flag data has contained a Big Segment.
fn big_segments(store: &EnvironmentStore, stale_after: Duration) -> Option<BigSegmentReport> {
    let freshness = store.big_segments.as_ref()?.freshness()?;
    let age = Duration::from_millis(unix_ms().saturating_sub(freshness.synchronized_on));
    Some(BigSegmentReport {
        is_available: freshness.is_available,
        // While the database cannot be read the age is unknown, as in `/status`.
        is_stale: freshness.is_available && age > stale_after,
        synchronized_on_ms: freshness.synchronized_on,
    })
}
