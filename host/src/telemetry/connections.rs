//! Metrics of connections, of their limits, and of the certificate.

use prometheus::Registry;

use super::{
    CERTIFICATE, CERTIFICATE_REJECTED, CONNECTIONS, CONNECTIONS_CLOSED, CONNECTIONS_LIMIT, STREAMS_LIMIT, counters,
    gauges, signed,
};
use crate::listener::Tls;
use crate::state::State;

/// Registers the metrics of this file with their current values.
pub(super) fn register(registry: &Registry, state: &State) {
    gauge(registry, CONNECTIONS, "Open connections of SDKs.", state.connections.open() as u64);
    gauge(registry, CONNECTIONS_LIMIT, "Limit of connections of SDKs.", state.capacity.connections as u64);
    gauge(registry, STREAMS_LIMIT, "Limit of streams.", state.capacity.streams as u64);
    let closed = counters(CONNECTIONS_CLOSED, "Connections that the gateway closed.", &["reason"]);
    for (reason, count) in state.connections.closed() {
        closed.with_label_values(&[reason]).inc_by(count);
    }
    super::register(registry, closed);
    if let Some(report) = state.tls.as_ref().map(Tls::report) {
        gauge(registry, CERTIFICATE, "Unix time at which the certificate was loaded.", report.loaded_ms / 1000);
        let is_rejected = u64::from(report.error.is_some());
        gauge(registry, CERTIFICATE_REJECTED, "1 while the files of the certificate cannot be used.", is_rejected);
    }
}

fn gauge(registry: &Registry, name: &str, help: &str, value: u64) {
    let gauge = gauges(name, help, &[]);
    gauge.with_label_values::<&str>(&[]).set(signed(value));
    super::register(registry, gauge);
}
