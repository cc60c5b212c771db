//! The calls of one hook, as they are shown.

use std::collections::BTreeMap;

use serde::Serialize;
use yardarm_wasm::{CALL_SECONDS, HookMetrics};

/// Calls of one hook of one generation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct HookCalls {
    /// The hook.
    pub(super) hook: &'static str,
    /// Number of calls.
    pub(super) calls: u64,
    /// Number of those without a usable reply.
    pub(super) failed: u64,
    /// Number of calls by outcome.
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    /// Microseconds within which half of the calls ended; the bound of a bucket, so this is up to 2.5 times too large.
    pub(super) p50_us: u64,
    /// Microseconds within which 99 % of the calls ended.
    pub(super) p99_us: u64,
}

impl HookCalls {
    pub(super) fn new(metrics: &HookMetrics) -> Self {
        let outcomes: BTreeMap<_, _> = metrics.outcomes.iter().copied().filter(|(_, count)| *count > 0).collect();
        Self {
            hook: metrics.hook.name(),
            calls: outcomes.values().sum(),
            failed: metrics.failed,
            outcomes,
            p50_us: quantile(&metrics.buckets, 50),
            p99_us: quantile(&metrics.buckets, 99),
        }
    }

    /// Describes the calls in one line.
    pub(super) fn text(&self) -> String {
        let Self { hook, calls, p50_us, p99_us, .. } = self;
        format!("{hook}: {calls} calls, {}, p50 {p50_us} µs, p99 {p99_us} µs,", self.outcomes_text())
    }

    /// Returns the cells of a row of the table.
    pub(super) fn cells(&self) -> [String; 5] {
        let Self { hook, calls, p50_us, p99_us, .. } = self;
        [(*hook).to_owned(), calls.to_string(), format!("{p50_us} µs"), format!("{p99_us} µs"), self.outcomes_text()]
    }

    fn outcomes_text(&self) -> String {
        self.outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect::<Vec<_>>().join(", ")
    }
}

/// Returns the bound of the bucket with the call below which `percent` of all are, in microseconds.
fn quantile(buckets: &[u64], percent: u64) -> u64 {
    let total: u64 = buckets.iter().sum();
    let rank = (total * percent).div_ceil(100).max(1);
    let mut count = 0;
    let index = buckets.iter().position(|bucket| {
        count += bucket;
        count >= rank
    });
    // Calls beyond the last bound took longer than it.
    let bound = index.map(|index| CALL_SECONDS.get(index).or(CALL_SECONDS.last()).copied().unwrap_or_default());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a second has a million of them")]
    bound.map_or(0, |seconds| (seconds * 1e6).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let mut buckets = [0; CALL_SECONDS.len() + 1];
        assert_eq!(quantile(&buckets, 50), 0);
        (buckets[0], buckets[2]) = (98, 2);
        assert_eq!((quantile(&buckets, 50), quantile(&buckets, 99)), (1, 5));
        buckets[CALL_SECONDS.len()] = 1_000;
        assert_eq!(quantile(&buckets, 50), 1_000_000);
    }
}
