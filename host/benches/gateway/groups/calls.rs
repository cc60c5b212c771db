//! P5: what a plugin adds to each request, with a plugin that reads one header.

use anyhow::{Context, Result, ensure};
use tokio::time::Instant;

use crate::Bench;
use crate::awake::Awake;
use crate::cloud::Cloud;
use crate::goals::Figure;
use crate::http::{self, KeepAlive};
use crate::inputs::{self, Dice};
use crate::server::{Server, Setup, sdk_key};
use crate::stats::{Spread, quantile};

/// One environment per variant. In one gateway, so that nothing else differs.
const WAYS: [&str; 3] = ["without", "call", "pool"];

/// The plugin reads one of six granted headers, compares it with a pattern, and allows the request with a name for the caller.
const BINDING: &str = r#"
[plugin]
name = "request-gate"
grants = ["header:x-bench-0", "header:x-bench-1", "header:x-bench-2", "header:x-bench-3", "header:x-bench-4", "header:x-bench-5"]
[plugin.config]
sdks = ["server"]
require_headers = { x-bench-0 = "0123456789abcdef*" }
[[bind]]
hook = "request-auth"
environments = ["call"]
isolation = "call"
limits = { deadline_ms = 1000 }
[[bind]]
hook = "request-auth"
environments = ["pool"]
isolation = "pool"
limits = { deadline_ms = 1000 }
"#;

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let component = bench.options.sample("request-gate")?;
    let cloud = Cloud::start()?;
    WAYS.iter().for_each(|way| cloud.puts(&sdk_key(way), &inputs::small()));
    let setup = Setup::new(&bench.options, &cloud.url(), &WAYS)?;
    std::fs::write(setup.plugins().join("request-gate.toml"), BINDING)?;
    std::fs::write(setup.plugins().join("request-gate.wasm"), component)?;
    let server = setup.start()?;
    server.settle()?;
    let status = server.wait_for_plugins(1)?;
    let made_in = &status["plugins"][0]["active"]["fresh_instance_us"];

    let _awake = Awake::start();
    let requests = WAYS.map(request);
    let mut connections = WAYS.iter().map(|_| KeepAlive::open(server.sdks)).collect::<Result<Vec<_>>>()?;
    let (rounds, per_round) = bench.options.size((8, 2_500), (3, 800));
    let calls_before = plugin_calls(&server)?;
    let mut dice = Dice::new(6);
    let (mut added, mut tails) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut without = Vec::new();
    for round in 0..=rounds {
        for way in [1, 2] {
            let [plain, gated] = by_turns(&mut connections, &requests, [0, way], per_round, &mut dice)?;
            if round > 0 {
                added[way - 1].push(quantile(&gated, 0.5) - quantile(&plain, 0.5));
                tails[way - 1].push(quantile(&gated, 0.99) - quantile(&plain, 0.99));
                without.push(quantile(&plain, 0.5));
            }
        }
    }
    let mut cpu = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for way in 0..WAYS.len() {
            let mark = server.process().cpu()?;
            for _ in 0..per_round {
                send(&mut connections[way], &requests[way])?;
            }
            cpu[way].push(server.process().cpu_since(&mark)?.as_secs_f64() * 1e6 / per_round as f64);
        }
    }
    // Each request of two variants, in both parts, must have been decided by the plugin.
    let expected = (2 * per_round * (rounds + 1) + 2 * per_round * rounds) as f64;
    let seen = plugin_calls(&server)? - calls_before;
    ensure!((seen - expected).abs() < 0.5, "the plugin was called {seen} times instead of {expected}");

    // Round by round, because the load of the machine varies.
    let of_cpu = |way: usize| {
        let added: Vec<f64> = cpu[way].iter().zip(&cpu[0]).map(|(with, without)| with - without).collect();
        Spread::of(&added)
    };
    for (figure, way, more) in [
        (Figure::CallPooled, 2, String::new()),
        (Figure::CallFresh, 1, format!("; the gateway measured {made_in} us to make an instance")),
    ] {
        let p50 = Spread::of(&added[way - 1]);
        bench.report.add(
            figure,
            p50.median,
            format!(
                "one of six granted headers read, p50 {p50} us more than {} us without a plugin; p99 {} us more; CPU {} us more than {} us{more}",
                Spread::of(&without),
                Spread::of(&tails[way - 1]),
                of_cpu(way),
                Spread::of(&cpu[0]),
            ),
        );
    }
    Ok(())
}

fn request(environment: &str) -> Vec<u8> {
    let key = sdk_key(environment);
    let names: Vec<String> = (0..6).map(|index| format!("X-Bench-{index}")).collect();
    let mut headers = vec![("Authorization", key.as_str())];
    headers.extend(names.iter().map(|name| (name.as_str(), "0123456789abcdef0123456789abcdef")));
    http::request("GET", "/sdk/flags/small-07", &headers, b"")
}

/// Returns the microseconds of each request of two variants, which alternate in random order.
///
/// Not all three alternately: the state in which one leaves the caches would always affect the one after it.
fn by_turns(
    connections: &mut [KeepAlive],
    requests: &[Vec<u8>; 3],
    ways: [usize; 2],
    count: usize,
    dice: &mut Dice,
) -> Result<[Vec<f64>; 2]> {
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..count {
        let first = dice.below(2);
        for turn in [first, 1 - first] {
            let start = Instant::now();
            send(&mut connections[ways[turn]], &requests[ways[turn]])?;
            samples[turn].push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(samples)
}

fn send(connection: &mut KeepAlive, request: &[u8]) -> Result<()> {
    let (status, body) = connection.send(request)?;
    let is_flag = body.windows(10).any(|it| it == b"\"small-07\"");
    ensure!(status == 200 && is_flag, "a request was answered {status}: {}", String::from_utf8_lossy(body));
    Ok(())
}

fn plugin_calls(server: &Server) -> Result<f64> {
    let labels = [("plugin", "request-gate"), ("hook", "request-auth"), ("outcome", "allow")];
    server.operator()?.metric("yardarm_plugin_calls_total", &labels).context("calls of the plugin")
}
