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
    let before = Calls::read(&mut operator, plugin)?;
    post(server, environment, batch, (count, pace))?;
    let mut after = before;
    server.wait("filtered batches", || {
        after = Calls::read(&mut operator, plugin)?;
        Ok(after.count >= before.count + count as f64)
    })?;
    let succeeded = after.succeeded - before.succeeded;
    ensure!(
        (succeeded - count as f64).abs() < 0.5,
        "{succeeded} of {count} calls of the filter succeeded:\n{}",
        server.last_words()
    );
    Ok((after.seconds - before.seconds) * 1e6 / count as f64)
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

/// The calls of a filter until now.
#[derive(Debug, Clone, Copy)]
struct Calls {
    count: f64,
    seconds: f64,
    succeeded: f64,
}

impl Calls {
    fn read(operator: &mut KeepAlive, plugin: &str) -> Result<Self> {
        let metrics = operator.metrics()?;
        let sum = |name: &str, more: &[(&str, &str)]| {
            metrics.sum(name, &[&[("plugin", plugin), ("hook", "event-filter")], more].concat())
        };
        let succeeded = ["changed", "unchanged"].map(|it| sum("yardarm_plugin_calls_total", &[("outcome", it)]));
        Ok(Self {
            count: sum("yardarm_plugin_call_seconds_count", &[]),
            seconds: sum("yardarm_plugin_call_seconds_sum", &[]),
            succeeded: succeeded.iter().sum(),
        })
    }
}
