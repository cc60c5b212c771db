//! P7: plugins are replaced repeatedly under load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use tokio::time::Instant;

use crate::Bench;
use crate::cloud::Cloud;
use crate::components;
use crate::folder::{self, Folder};
use crate::goals::Figure;
use crate::http;
use crate::inputs;
use crate::load::{Load, Outcome};
use crate::server::{Server, Setup, sdk_key, stream_request};
use crate::stats::quantile;
use crate::swarm::Swarm;

const ENVIRONMENT: &str = "swaps";
const STEM: &str = "request-gate";
const RATE: u32 = 2_000;
const CONNECTIONS: usize = 64;
/// One out of this many swaps introduces a new component that has to be compiled.
const NEW_CODE_EVERY: usize = 10;

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let component = bench.options.sample(STEM)?;
    let swaps = bench.options.swaps.unwrap_or(bench.options.size(200, 30));
    let streams = bench.options.size(2_000, 500).min(bench.machine.streams().saturating_sub(CONNECTIONS));
    let cloud = Cloud::start()?;
    let data = inputs::small();
    cloud.puts(&sdk_key(ENVIRONMENT), &data);
    let setup = Setup::new(&bench.options, &cloud.url(), &[ENVIRONMENT])?;
    folder::put(&setup.plugins(), &format!("{STEM}.toml"), binding(0).as_bytes())?;
    folder::put(&setup.plugins(), &format!("{STEM}.wasm"), &component)?;
    let server = setup.start()?;
    server.settle()?;
    server.wait_for_plugins(1)?;

    let mut swarm = Swarm::new(server.sdks, stream_request(ENVIRONMENT))?;
    // A few at a time: a storm of new streams is another measurement.
    swarm.open(streams, 16, 1)?;
    let mut load = Load::open(server.sdks, CONNECTIONS)?;
    let before = drive(&mut load, &mut swarm, &for_some_time(bench.options.size(8, 3)))?;
    let mut watched = Folder::new(setup.plugins(), &server)?;
    let first = watched.generation()?;
    let (is_over, start) = (AtomicBool::new(false), Instant::now());
    let (during, swapped) = std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let result = swap_all(&mut watched, &component, swaps);
            is_over.store(true, Ordering::Relaxed);
            result
        });
        let during = drive(&mut load, &mut swarm, &|| is_over.load(Ordering::Relaxed));
        // If driving fails, the swaps still end by themselves.
        (during, swapper.join().unwrap_or_else(|_| Err(anyhow!("the thread that swaps panicked"))))
    });
    let (during, seconds) = (during?, start.elapsed().as_secs_f64());
    let generations = swapped? - first;
    ensure!(generations >= swaps as u64, "only {generations} plans for {swaps} swaps");
    // A stream that is open but dead counts as dropped.
    let dropped = swarm.lost().len();
    let alive = streams - dropped;
    if dropped == 0 {
        cloud.patches(&sdk_key(ENVIRONMENT), &inputs::patch(1, 1500));
        swarm.wait_for_events(2)?;
    }
    let what = format!(
        "{swaps} swaps in {seconds:.0} s, {generations} plans; {} requests at {RATE}/s; {alive} of {streams} streams alive and hearing",
        during.answered + during.failed,
    );
    let failures = failures(&server, &[("before", &before), ("during", &during)])?;
    bench.report.add(Figure::SwapFailedRequests, during.failed as f64, format!("{what}{failures}"));
    let reason = swarm.lost().first().map_or(String::new(), |it| format!("the first one: {it}"));
    bench.report.add(Figure::SwapDroppedStreams, dropped as f64, reason);
    let [p50, p99] = [0.5, 0.99].map(|share| (quantile(&before.latencies, share), quantile(&during.latencies, share)));
    bench.report.add(
        Figure::SwapTail,
        p99.1 / p99.0,
        format!(
            "p50 {:.0} us before, {:.0} us during; p99 {:.0} us before, {:.0} us during",
            p50.0, p50.1, p99.0, p99.1
        ),
    );
    drop(swarm);
    storm(bench, &server, &mut watched, streams)
}

/// Not a goal, but close to one: streams that all reconnect at once, each of which is admitted by a plugin.
fn storm(bench: &mut Bench, server: &Server, folder: &mut Folder, count: usize) -> Result<()> {
    for number in [4, 5] {
        let generation = folder.generation()?;
        folder.put(&format!("{STEM}.toml"), binding(number).as_bytes())?;
        folder.wait_for(generation, STEM, "active")?;
        let mut swarm = Swarm::new(server.sdks, stream_request(ENVIRONMENT))?;
        let (refused, took) = swarm.try_open(count)?;
        let reason = swarm.lost().first().map_or(String::new(), |it| format!(", the first one: {it}"));
        let how = if number == 4 { "an instance per call" } else { "warm instances" };
        bench.report.note(format!(
            "{count} streams at once, each admitted by a plugin, {how}: {refused} refused{reason}; all answered after {:.2} s",
            took.as_secs_f64(),
        ));
    }
    Ok(())
}

/// Describes why requests failed, as seen by clients and by the gateway; empty if none did.
fn failures(server: &Server, phases: &[(&str, &Outcome)]) -> Result<String> {
    let mut text = String::new();
    for (phase, outcome) in phases {
        if let Some(reason) = &outcome.first_failure {
            let all = outcome.failed + outcome.answered;
            text.push_str(&format!(
                "; {phase} the swaps {} of {all} requests failed, the first one: {reason}",
                outcome.failed
            ));
        }
    }
    if !text.is_empty() {
        let status = server.operator()?.json("/api/plugins")?;
        let outcomes = status["plugins"][0]["active"]["calls"][0]["outcomes"].as_array().cloned().unwrap_or_default();
        let failed = outcomes.iter().filter(|it| it[0] != "allow" && it[1] != 0);
        let failed: Vec<String> =
            failed.map(|it| format!("{} {}", it[1], it[0].as_str().unwrap_or_default())).collect();
        text.push_str(&format!("; calls of the plugin that failed: {}", failed.join(", ")));
    }
    Ok(text)
}

/// Drives a steady load while streams are read.
fn drive(load: &mut Load, swarm: &mut Swarm, is_over: &dyn Fn() -> bool) -> Result<Outcome> {
    let key = sdk_key(ENVIRONMENT);
    let requests = [http::request("GET", "/sdk/flags/small-07", &[("Authorization", &key)], b"")];
    let mut last = Instant::now();
    let mut failed = None;
    let outcome = load.paced(
        &requests,
        RATE,
        &mut || {
            if last.elapsed() > Duration::from_millis(50) {
                last = Instant::now();
                failed = swarm.turn(Duration::ZERO).err();
            }
            failed.is_some() || is_over()
        },
        &mut |_, body| {
            ensure!(body.windows(10).any(|it| it == b"\"small-07\""), "an answer without the flag");
            Ok(())
        },
    )?;
    failed.map_or(Ok(outcome), Err)
}

fn for_some_time(seconds: u64) -> impl Fn() -> bool {
    let start = Instant::now();
    move || start.elapsed() > Duration::from_secs(seconds)
}

/// Replaces the component and its binding file alternately; returns the last generation.
fn swap_all(folder: &mut Folder, component: &[u8], swaps: usize) -> Result<u64> {
    let mut generation = folder.generation()?;
    for number in 1..=swaps {
        match number {
            _ if number.is_multiple_of(NEW_CODE_EVERY) => {
                folder.put(&format!("{STEM}.wasm"), &components::variant(component, 1_000 + number))?;
            }
            _ if number.is_multiple_of(2) => folder.put(&format!("{STEM}.toml"), binding(number).as_bytes())?,
            // Two files that alternate and are compiled once.
            _ => folder.put(&format!("{STEM}.wasm"), &components::variant(component, number / 2 % 2))?,
        }
        generation = folder.wait_for(generation, STEM, "active")?.0;
    }
    Ok(generation)
}

fn binding(number: usize) -> String {
    let isolation = if number.is_multiple_of(4) { "call" } else { "pool" };
    format!(
        "# {number}\n[plugin]\nname = \"request-gate\"\n[plugin.config]\ntokens = [\"never asked for {number}\"]\n\
         [[bind]]\nhook = \"request-auth\"\nenvironments = [\"swaps\"]\nisolation = \"{isolation}\"\n"
    )
}
