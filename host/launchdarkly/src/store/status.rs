//! Whether the database works, and since when.

use std::sync::{Mutex, PoisonError};

use yardarm_core::time::unix_ms;

/// State of one environment's database.
pub(crate) struct StoreStatus(Mutex<StoreReport>);

/// The state at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreReport {
    /// Whether its last operation succeeded.
    pub(crate) is_available: bool,
    /// Unix milliseconds since when.
    pub(crate) since_ms: u64,
}

impl StoreStatus {
    /// Available until the contrary is known.
    pub(super) fn new() -> Self {
        Self(Mutex::new(StoreReport { is_available: true, since_ms: unix_ms() }))
    }

    pub(crate) fn report(&self) -> StoreReport {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether it was otherwise before.
    pub(super) fn enter(&self, is_available: bool) -> bool {
        let mut report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = report.is_available != is_available;
        if is_news {
            *report = StoreReport { is_available, since_ms: unix_ms() };
        }
        is_news
    }
}
