//! Metrics: what each means, where its samples come from, and the text that Prometheus reads.
//!
//! A [`Metric`] declares a name, its labels and its meaning; [`catalog`] has those of the gateway. Whenever metrics are
//! requested, a [`Registry`] calls each part of the gateway, which adds its samples to [`Families`]. No other module
//! depends on the crate `prometheus`.

pub mod catalog;

mod families;
mod metric;

use std::sync::Arc;

use parking_lot::Mutex;
pub use prometheus::{HistogramVec, IntCounterVec};

pub use self::families::{Families, Number};
pub use self::metric::{Kind, Metric, table};

/// Content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Adds the current samples of a part of the gateway.
type Collector = Arc<dyn Fn(&mut Families) + Send + Sync>;

/// The metrics of one gateway. Cheap to clone; clones share their metrics.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Vec<Collector>>>);

impl Registry {
    /// Registers a function that adds samples whenever metrics are requested.
    pub fn register(&self, collector: impl Fn(&mut Families) + Send + Sync + 'static) {
        self.0.lock().push(Arc::new(collector));
    }

    /// Returns all metrics in the text format of Prometheus.
    #[must_use]
    pub fn encode(&self) -> String {
        // A collector may take locks and time, so this lock is released first.
        let collectors = self.0.lock().clone();
        let mut families = Families::default();
        for collector in collectors {
            collector(&mut families);
        }
        families.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_collected_at_each_request() {
        const CALLS: Metric = Metric::counter("calls_total", &["part"], "Calls.");
        let registry = Registry::default();
        assert_eq!(registry.encode(), "");
        let (calls, computed) = (CALLS.counters(), Arc::new(Mutex::new(1_u64)));
        let (live, shared) = (calls.clone(), Arc::clone(&computed));
        registry.register(move |families| families.collect(&live));
        registry.clone().register(move |families| families.sample(&CALLS, &["b"], *shared.lock()));
        let head = "# HELP calls_total Calls.\n# TYPE calls_total counter\n";
        assert_eq!(registry.encode(), format!("{head}calls_total{{part=\"b\"}} 1\n"));
        calls.with_label_values(&["a"]).inc_by(3);
        *computed.lock() = 2;
        assert_eq!(registry.encode(), format!("{head}calls_total{{part=\"a\"}} 3\ncalls_total{{part=\"b\"}} 2\n"));
    }
}
