//! Time, for plugins with the grant `clock`.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;

use super::wasi::{STANDSTILL, STANDSTILL_TEXT};
use crate::runtime::guest::GuestState;
use crate::runtime::interface::v0_1;

/// The arbitrary origin of the monotonic clock.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl v0_1::host::clock::Host for GuestState {
    fn now_ms(&mut self) -> wasmtime::Result<u64> {
        if self.is_repeatable {
            self.record_unreal("clock", true, STANDSTILL_TEXT);
            return Ok(u64::try_from(STANDSTILL.as_millis()).unwrap_or(u64::MAX));
        }
        if let Some(now) = self.plugin.services.now_ms {
            return Ok(now);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic_ns(&mut self) -> wasmtime::Result<u64> {
        if self.is_repeatable {
            self.record_unreal("clock", true, STANDSTILL_TEXT);
            return monotonic_clock::Host::now(&mut self.advancing_clocks());
        }
        Ok(u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
