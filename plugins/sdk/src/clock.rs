//! Time. Needs the grant `clock`: a plugin that calls any function of this module is rejected without it. In
//! `payload-transform` and `evaluation-transform` the time is always 2020-01-01: read the clock in [`Background`](crate::Background).
//!
//! ```
//! use yardarm_plugin::{clock, testing};
//!
//! testing::set_time(1_767_225_600_000);
//! assert_eq!(clock::unix_ms(), 1_767_225_600_000);
//! ```

use std::time::Duration;

/// Returns wall-clock time in Unix milliseconds.
#[must_use]
pub fn unix_ms() -> u64 {
    #[cfg(target_family = "wasm")]
    return crate::bindings::host::clock::now_ms();
    #[cfg(not(target_family = "wasm"))]
    crate::testing::time().unwrap_or_else(|| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    })
}

/// Returns monotonic time from an arbitrary origin: only differences are meaningful.
#[must_use]
pub fn monotonic() -> Duration {
    #[cfg(target_family = "wasm")]
    return Duration::from_nanos(crate::bindings::host::clock::monotonic_ns());
    #[cfg(not(target_family = "wasm"))]
    {
        #[expect(clippy::disallowed_types, reason = "plugins have no tokio")]
        static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
        START.elapsed()
    }
}
