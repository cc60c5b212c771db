//! P5: what a plugin adds to each request, with a plugin that reads one header; and to those that it does not see.
//!
//! Acceptance test 9 of the plugin system, with P6.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::Bench;
use crate::awake::Awake;
use crate::cloud::Cloud;
use crate::cores::{Cores, Pinned};
use crate::goals::Figure;
use crate::http::{self, KeepAlive};
use crate::inputs::{self, Dice};
use crate::server::{Server, Setup, sdk_key};
use crate::stats::{Spread, quantile};

/// One environment per variant. In one gateway, so that nothing else differs.
const WAYS: [&str; 3] = ["without", "call", "pool"];

/// A variant: the first environment in a gateway without plugins.
const NO_PLUGINS: usize = WAYS.len();

/// Minimum time between two requests whose times are compared. After a response the gateway drops an instance and creates the
/// next one, which must not affect the request of the other variant; CPU includes it.
const PAUSE: Duration = Duration::from_micros(100);

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
    // It has a thread for each processor.
    let _awake = Awake::start();
    let cores = Cores::choose()?;
    let there = Pinned::to(cores.gateway)?;
    let server = setup.start()?;
    let plain = Setup::new(&bench.options, &cloud.url(), &WAYS)?.start()?;
    drop(there);
    server.settle()?;
    plain.settle()?;
    let status = server.wait_for_plugins(1)?;
    let made_in = &status["plugins"][0]["active"]["fresh_instance_us"];

    let mut variants = WAYS.iter().map(|way| Variant::new(&server, way)).collect::<Result<Vec<_>>>()?;
    variants.push(Variant::new(&plain, WAYS[0])?);
    let (rounds, per_round) = bench.options.size((8, 1_500), (3, 500));
    let calls_before = plugin_calls(&server)?;
    let mut dice = Dice::new(6);
    let mut compare = |core| -> Result<[Added; 3]> {
        let _here = Pinned::to(core)?;
        let mut added = <[Added; 3]>::default();
        for round in 0..=rounds {
            for (index, ways) in [[0, 1], [0, 2], [NO_PLUGINS, 0]].into_iter().enumerate() {
                let times = by_turns(&mut variants, ways, per_round, &mut dice)?;
                if round > 0 {
                    added[index].add(&times);
                }
            }
        }
        Ok(added)
    };
    let apart = compare(cores.client)?;
    let together = compare(cores.gateway)?;
    let mut cpu = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for way in 0..WAYS.len() {
            let mark = server.process().cpu()?;
            for _ in 0..per_round {
                variants[way].send()?;
            }
            cpu[way].push(server.process().cpu_since(&mark)?.as_secs_f64() * 1e6 / per_round as f64);
        }
    }
    // Each request of two variants, in all parts, must have been decided by the plugin.
    let expected = (4 * per_round * (rounds + 1) + 2 * per_round * rounds) as f64;
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
        bench.report.add(
            figure,
            Spread::of(&apart[way - 1].p50).median,
            format!(
                "one of six granted headers read, {}; on one processor, {}; CPU {} us more than {} us{more}",
                apart[way - 1],
                together[way - 1],
                of_cpu(way),
                Spread::of(&cpu[0]),
            ),
        );
    }
    bench.report.add(
        Figure::CallUnbound,
        Spread::of(&apart[2].p50).median,
        format!("beside a gateway without plugins, {}; on one processor, {}", apart[2], together[2]),
    );
    Ok(())
}

/// How much longer requests of one variant take than those of another, in microseconds, one value per round.
#[derive(Default)]
struct Added {
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// The p50 of the other variant.
    base: Vec<f64>,
}

impl Added {
    fn add(&mut self, [less, more]: &[Vec<f64>; 2]) {
        self.p50.push(quantile(more, 0.5) - quantile(less, 0.5));
        self.p99.push(quantile(more, 0.99) - quantile(less, 0.99));
        self.base.push(quantile(less, 0.5));
    }
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, base] = [&self.p50, &self.p99, &self.base].map(|it| Spread::of(it));
        write!(f, "p50 {p50} us more than {base} us, p99 {p99} us more")
    }
}

/// A connection and the request that is sent on it.
struct Variant {
    connection: KeepAlive,
    request: Vec<u8>,
}

impl Variant {
    fn new(server: &Server, environment: &str) -> Result<Self> {
        Ok(Self { connection: KeepAlive::open(server.sdks)?, request: request(environment) })
    }

    fn send(&mut self) -> Result<()> {
        let (status, body) = self.connection.send(&self.request)?;
        let is_flag = body.windows(10).any(|it| it == b"\"small-07\"");
        ensure!(status == 200 && is_flag, "a request was answered {status}: {}", String::from_utf8_lossy(body));
        Ok(())
    }
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
/// Not all of them alternately: the state in which one leaves the caches would always affect the one after it.
fn by_turns(variants: &mut [Variant], ways: [usize; 2], count: usize, dice: &mut Dice) -> Result<[Vec<f64>; 2]> {
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..count {
        let first = dice.below(2);
        for turn in [first, 1 - first] {
            let start = Instant::now();
            variants[ways[turn]].send()?;
            samples[turn].push(start.elapsed().as_secs_f64() * 1e6);
            std::thread::sleep(PAUSE);
        }
    }
    Ok(samples)
}

fn plugin_calls(server: &Server) -> Result<f64> {
    let labels = [("plugin", "request-gate"), ("hook", "request-auth"), ("outcome", "allow")];
    Ok(server.operator()?.metrics()?.sum("yardarm_plugin_calls_total", &labels))
}
