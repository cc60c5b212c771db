//! The metrics that are computed when they are requested. `yardarm_core::metrics::catalog` has their meanings.

use std::sync::Arc;
use std::time::Duration;

use yardarm_core::metrics::{Families, catalog};
use yardarm_fleet::Role;

use crate::listener::Tls;
use crate::logging;
use crate::state::State;

mod environments;
mod plugins;

/// Registers the metrics of all running parts.
pub(crate) fn register(state: &Arc<State>) {
    // Weak, because the state holds the registry.
    let weak = Arc::downgrade(state);
    state.metrics.register(move |families| {
        let Some(state) = weak.upgrade() else { return };
        streams(families, &state);
        connections(families, &state);
        fleet(families, &state);
        environments::collect(families, &state.reports(), &state.environment_lists());
        plugins::collect(families, &state.plugins.metrics(), &state.plugins.status());
        process(families, &state);
    });
}

fn streams(families: &mut Families, state: &State) {
    for counts in state.streams.counts() {
        let (vendor, name) = (counts.environment.vendor(), &**counts.environment.name());
        families.sample(&catalog::STREAMS, &[vendor, name, counts.route], counts.open);
        families.sample(&catalog::STREAMS_OPENED, &[vendor, name, counts.route], counts.opened);
        for (reason, count) in counts.ended {
            families.sample(&catalog::STREAMS_ENDED, &[vendor, name, counts.route, reason], count);
        }
    }
    let report = state.fanout.report();
    families.sample(&catalog::STREAMS_BLOCKED, &[], report.blocked);
    families.sample(&catalog::STREAM_MAX_LAG, &[], report.max_lag);
    families.sample(&catalog::STREAM_WRITTEN_BYTES, &[], report.written_bytes);
    families.sample(&catalog::STREAMS_LIMIT, &[], state.capacity.streams);
}

fn fleet(families: &mut Families, state: &State) {
    let Some(fleet) = &state.fleet else { return };
    families.sample(&catalog::FLEET_MEMBERS, &[], fleet.members());
    families.sample(&catalog::FLEET_AVAILABLE, &[], fleet.is_available());
    for (source, present) in fleet.roles() {
        for role in Role::ALL {
            families.sample(&catalog::FLEET_ROLE, &[&source, role.as_str()], role == present);
        }
    }
}

fn connections(families: &mut Families, state: &State) {
    families.sample(&catalog::CONNECTIONS, &[], state.connections.open());
    families.sample(&catalog::CONNECTIONS_LIMIT, &[], state.capacity.connections);
    for (reason, count) in state.connections.closed() {
        families.sample(&catalog::CONNECTIONS_CLOSED, &[reason], count);
    }
    if let Some(report) = state.tls.as_ref().map(Tls::report) {
        families.sample(&catalog::CERTIFICATE_LOADED, &[], report.loaded_ms / 1000);
        if let Some(expires_ms) = report.expires_ms {
            families.sample(&catalog::CERTIFICATE_EXPIRES, &[], expires_ms / 1000);
        }
        families.sample(&catalog::CERTIFICATE_REJECTED, &[], report.error.is_some());
    }
}

fn process(families: &mut Families, state: &State) {
    families.sample(&catalog::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1_u64);
    families.sample(&catalog::READY, &[], state.readiness().is_ready);
    for report in state.lifecycle.supervisor().panics() {
        families.sample(&catalog::TASK_PANICS, &[report.task.name], report.panics);
    }
    families.sample(&catalog::LOG_LINES_DROPPED, &[], logging::dropped_lines());
    let (resident, cpu) = resources();
    families.sample(&catalog::PROCESS_RESIDENT_BYTES, &[], resident);
    families.sample(&catalog::PROCESS_CPU_SECONDS, &[], cpu.as_secs_f64());
}

/// Returns the resident bytes and CPU time of this process as the operating system reports them; zero if it does not.
#[must_use]
pub fn resources() -> (u64, Duration) {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = pages.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    let times = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses and may contain anything.
    let fields = times.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    (resident * rustix::param::page_size() as u64, Duration::from_millis(ticks * 1000 / per_second))
}
