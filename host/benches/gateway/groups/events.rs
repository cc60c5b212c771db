//! P6: the cost of a filter that reads every event.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::time::Instant;

use crate::Bench;
use crate::awake::Awake;
use crate::cloud::Cloud;
use crate::filter_calls;
use crate::goals::Figure;
use crate::inputs;
use crate::server::{Server, Setup, sdk_key};
use crate::stats::Spread;

const EVENTS: usize = 100;
const EVENT_BYTES: usize = 300;
const WAYS: [&str; 2] = ["call", "pool"];
/// Batches do not overlap: the figure is that of one call, not of a queue.
const PACE: Duration = Duration::from_millis(4);

const BINDING: &str = r#"
[plugin]
name = "event-redactor"
grants = ["event-bodies"]
[plugin.config]
drop = ["email"]
drop_kinds = ["click"]
[[bind]]
hook = "event-filter"
environments = ["call"]
isolation = "call"
limits = { deadline_ms = 1000 }
[[bind]]
hook = "event-filter"
environments = ["pool"]
isolation = "pool"
limits = { deadline_ms = 1000 }
"#;

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let component = bench.options.sample("event-redactor")?;
    let cloud = Cloud::start()?;
    WAYS.iter().for_each(|way| cloud.puts(&sdk_key(way), &inputs::small()));
    let setup = Setup::new(&bench.options, &cloud.url(), &WAYS)?
        .with("send_events = true")
        .with("events_capacity = 1000000")
        .with("events_flush_interval = \"500ms\"");
    std::fs::write(setup.plugins().join("event-redactor.toml"), BINDING)?;
    std::fs::write(setup.plugins().join("event-redactor.wasm"), component)?;
    let server = setup.start()?;
    server.settle()?;
    server.wait_for_plugins(1)?;

    let _awake = Awake::start();
    let events = inputs::events(EVENTS, EVENT_BYTES);
    let batch = serde_json::to_vec(&events)?;
    let (rounds, per_round) = bench.options.size((10, 50), (4, 25));
    let (mut of_way, mut native) = ([Vec::new(), Vec::new()], Vec::new());
    for round in 0..=rounds {
        for (index, way) in WAYS.iter().enumerate() {
            let mean = filter_calls::mean(&server, (way, "event-redactor"), &batch, (per_round, PACE))?;
            if round > 0 {
                of_way[index].push(mean);
            }
        }
        native.extend((0..per_round).map(|_| by_hand(&batch)).collect::<Result<Vec<_>>>()?);
    }
    check_redaction(&server, &cloud, &events)?;
    let [fresh, pooled] = of_way.each_ref().map(|it| Spread::of(it));
    let read: Vec<f64> = native.iter().map(|it| it.0).collect();
    let all: Vec<f64> = native.iter().map(|it| it.1).collect();
    let all = Spread::of(&all).median;
    bench.report.add(
        Figure::EventBatch,
        fresh.median.min(pooled.median) / all,
        format!(
            "{EVENTS} events, {} B; pooled instance {pooled} us, instance per call {fresh} us; \
             native serde_json: reading {:.0} us, reading, dropping and writing {all:.0} us",
            batch.len(),
            Spread::of(&read).median,
        ),
    );
    Ok(())
}

/// Does the work of the filter natively; returns microseconds for parsing, and for everything.
fn by_hand(batch: &[u8]) -> Result<(f64, f64)> {
    let start = Instant::now();
    let mut events: Vec<Value> = serde_json::from_slice(black_box(batch))?;
    let read = start.elapsed();
    events.retain(|it| it["kind"] != "click");
    for event in &mut events {
        if let Some(context) = event.get_mut("context").and_then(Value::as_object_mut) {
            context.remove("email");
        }
    }
    black_box(serde_json::to_vec(&events)?);
    Ok((read.as_secs_f64() * 1e6, start.elapsed().as_secs_f64() * 1e6))
}

/// Checks the output of the filter: no address and no click arrived, and everything else did.
fn check_redaction(server: &Server, cloud: &Cloud, events: &[Value]) -> Result<()> {
    let mut posts = Vec::new();
    server.wait("posted events", || {
        posts = cloud.posts("/bulk");
        Ok(!posts.is_empty())
    })?;
    let body = posts[0].json();
    let arrived = body.as_array().context("a post of events is not an array")?;
    let text = body.to_string();
    ensure!(!text.contains("\"email\":") && !text.contains("\"click\""), "events left the gateway unredacted");
    let staying = events.iter().filter(|it| it["kind"] != "click").count();
    ensure!(
        arrived.len().is_multiple_of(staying) && !arrived.is_empty(),
        "{} events arrived, not a multiple of {staying}",
        arrived.len()
    );
    Ok(())
}
