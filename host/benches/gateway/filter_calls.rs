//! Calls of an event filter, one batch at a time, as the gateway counts them.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::http::{self, KeepAlive};
use crate::server::{Server, sdk_key};

/// Posts `count` batches, one per `pace`; returns the mean microseconds of a call of the filter.
pub(crate) fn mean(
    server: &Server,
    (environment, plugin): (&str, &str),
    batch: &[u8],
    (count, pace): (usize, Duration),
) -> Result<f64> {
    let mut operator = server.operator()?;
    let before = calls(&mut operator, plugin)?;
    post(server, environment, batch, (count, pace))?;
    let mut after = before;
    server.wait("filtered batches", || {
        after = calls(&mut operator, plugin)?;
        Ok(after.0 >= before.0 + count as f64)
    })?;
    ensure!((after.2 - before.2 - count as f64).abs() < 0.5, "calls of the filter failed:\n{}", server.last_words());
    Ok((after.1 - before.1) * 1e6 / count as f64)
}

/// Posts `count` batches, one per `pace`.
pub(crate) fn post(server: &Server, environment: &str, batch: &[u8], (count, pace): (usize, Duration)) -> Result<()> {
    let key = sdk_key(environment);
    let headers =
        [("Authorization", key.as_str()), ("Content-Type", "application/json"), ("X-LaunchDarkly-Event-Schema", "4")];
    let request = http::request("POST", "/bulk", &headers, batch);
    let mut sdk = KeepAlive::open(server.sdks)?;
    for _ in 0..count {
        let due = Instant::now() + pace;
        let (status, body) = sdk.send(&request)?;
        ensure!(status == 202, "a batch was answered {status}: {}", String::from_utf8_lossy(body));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Returns the number of calls, their seconds, and how many of them succeeded.
fn calls(operator: &mut KeepAlive, plugin: &str) -> Result<(f64, f64, f64)> {
    let labels = [("plugin", plugin), ("hook", "event-filter")];
    let mut succeeded = 0.0;
    for outcome in ["changed", "unchanged"] {
        let labels = [labels[0], labels[1], ("outcome", outcome)];
        // A series begins with its first call.
        succeeded += operator.metric("yardarm_plugin_calls_total", &labels).unwrap_or(0.0);
    }
    let [count, sum] = ["count", "sum"]
        .map(|part| operator.metric(&format!("yardarm_plugin_call_seconds_{part}"), &labels).unwrap_or(0.0));
    Ok((count, sum, succeeded))
}
