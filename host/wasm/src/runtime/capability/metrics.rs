//! The import `metrics`: what guests count.

use crate::runtime::guest::GuestState;
use crate::runtime::interface::v0_1;
use crate::vocabulary::{GuestValue, Labels};

impl v0_1::host::metrics::Host for GuestState {
    fn counter_add(&mut self, name: String, delta: u64, labels: Labels) -> wasmtime::Result<()> {
        if !self.is_warm_up {
            self.plugin.counters.guest.update(name, labels, GuestValue::Counter(0), |value| {
                let GuestValue::Counter(count) = value else { return false };
                *count = count.saturating_add(delta);
                true
            });
        }
        Ok(())
    }

    fn gauge_set(&mut self, name: String, new: f64, labels: Labels) -> wasmtime::Result<()> {
        if !self.is_warm_up {
            self.plugin.counters.guest.update(name, labels, GuestValue::Gauge(0.0), |value| {
                let GuestValue::Gauge(old) = value else { return false };
                *old = new;
                true
            });
        }
        Ok(())
    }

    fn histogram_observe(&mut self, name: String, new: f64, labels: Labels) -> wasmtime::Result<()> {
        if !self.is_warm_up {
            let first = GuestValue::Summary { count: 0, sum: 0.0 };
            self.plugin.counters.guest.update(name, labels, first, |value| {
                let GuestValue::Summary { count, sum } = value else { return false };
                *count += 1;
                *sum += new;
                true
            });
        }
        Ok(())
    }
}
