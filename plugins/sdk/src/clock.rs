//! Time. Needs the grant `clock`: a plugin that calls anything in here is refused without it.

use std::time::Duration;

/// Wall clock, Unix milliseconds.
#[must_use]
pub fn unix_ms() -> u64 {
    #[cfg(target_family = "wasm")]
    return crate::bindings::host::clock::now_ms();
    #[cfg(not(target_family = "wasm"))]
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Monotonic clock, from an arbitrary start: only differences mean anything.
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
