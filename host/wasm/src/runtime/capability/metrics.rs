//! The import `metrics`: what guests count.

use crate::runtime::guest::GuestState;
use crate::runtime::interface::v0_1;
use crate::runtime::interface::v0_1::host::metrics::MetricError;
use crate::vocabulary::{GuestMetricError, GuestValue, Labels};

/// The outer error is one of Wasmtime, the inner one is for the guest.
type Recorded = wasmtime::Result<Result<(), MetricError>>;

impl v0_1::host::metrics::Host for GuestState {
    fn counter_add(&mut self, name: String, delta: u64, labels: Labels) -> Recorded {
        self.record(name, labels, GuestValue::Counter(delta))
    }

    fn gauge_set(&mut self, name: String, value: f64, labels: Labels) -> Recorded {
        self.record(name, labels, GuestValue::Gauge(value))
    }

    fn histogram_observe(&mut self, name: String, value: f64, labels: Labels) -> Recorded {
        self.record(name, labels, GuestValue::Summary { count: 1, sum: value })
    }
}

impl GuestState {
    fn record(&mut self, name: String, labels: Labels, observed: GuestValue) -> Recorded {
        if self.is_warm_up {
            return Ok(Ok(()));
        }
        let recorded = self.plugin.metrics.record(name, labels, observed);
        if recorded.is_err() {
            self.plugin.counters.count_refused_guest_metric();
        }
        Ok(recorded.map_err(MetricError::from))
    }
}

impl From<GuestMetricError> for MetricError {
    fn from(error: GuestMetricError) -> Self {
        match error {
            GuestMetricError::InvalidName => Self::InvalidName,
            GuestMetricError::WrongKind => Self::WrongKind,
            GuestMetricError::TooManySeries => Self::TooManySeries,
            GuestMetricError::InvalidValue => Self::InvalidValue,
        }
    }
}
