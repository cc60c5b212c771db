//! H1, H2: a change in Harness that is announced to all streams and then fetched by all of their clients.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;
use yardarm_testkit::FakeHarness;

use crate::Bench;
use crate::cloud::Cloud;
use crate::goals::Figure;
use crate::http::{self, KeepAlive};
use crate::inputs;
use crate::load::Load;
use crate::server::{Server, Setup};
use crate::stats::{Spread, quantile};
use crate::swarm::Swarm;

const ENVIRONMENT: &str = "0a1b2c3d-4e5f-4000-8000-000000000001";
const KEY: &str = "0a1b2c3d-4e5f-4000-8000-00000000aaaa";
const FLAGS: usize = 1_000;
/// The flag that changes.
const FLAG: &str = "flag-0007";
/// Number of streams that are opened at a time.
const CALMLY: usize = 256;
/// Number of connections for the requests of all clients, as behind a load balancer.
const CONNECTIONS: usize = 128;
/// Pause after a round, until all threads are idle.
const REST: Duration = Duration::from_millis(60);

/// The requests of the clients.
struct Herd {
    id: &'static str,
    cpu: Figure,
    time: Figure,
    requests: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Rounds {
    cpu: Vec<f64>,
    notified: Vec<f64>,
    p99: Vec<f64>,
}

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let wanted = bench.options.streams.unwrap_or(bench.options.size(10_000, 2_000));
    let count = wanted.min(bench.machine.streams() - CONNECTIONS);
    let cloud = Cloud::harness()?;
    cloud.adds_environment(ENVIRONMENT, "bench", [KEY]);
    cloud.puts(ENVIRONMENT, inputs::harness_flags(FLAGS), [inputs::harness_segment()]);
    let server = start(bench, &cloud)?;
    server.settle()?;
    let bearer = token(&server)?;
    let stream = http::request("GET", "/stream?cluster=1", &[("Authorization", &bearer), ("API-Key", KEY)], b"");
    let mut swarm = Swarm::new(server.sdks, stream)?;
    swarm.open(count, CALMLY, 0)?;

    let get = |path: &str| http::request("GET", path, &[("Authorization", &bearer)], b"");
    let base = format!("/client/env/{ENVIRONMENT}");
    let target = |index: usize| get(&format!("{base}/target/target-{index}/evaluations/{FLAG}?cluster=1"));
    let herds = [
        Herd {
            id: "h1",
            cpu: Figure::HerdServerCpu,
            time: Figure::HerdServerTime,
            requests: vec![get(&format!("{base}/feature-configs/{FLAG}?cluster=1"))],
        },
        Herd {
            id: "h2",
            cpu: Figure::HerdClientCpu,
            time: Figure::HerdClientTime,
            requests: (0..count).map(target).collect(),
        },
    ];
    let mut load = Load::open(server.sdks, CONNECTIONS)?;
    let least = plain_request(&server, &mut load, bench.options.size(10_000, 2_000))?;
    let mut version = 1;
    for herd in herds.iter().filter(|it| bench.asks_for(it.id)).collect::<Vec<_>>() {
        let mut all = Rounds::default();
        // The first round is a warm-up and is not counted.
        for round in 0..=bench.options.size(10, 3) {
            version += 1;
            let (cpu, notified, p99) = stampede(&cloud, &server, &mut swarm, &mut load, herd, version)?;
            if round > 0 {
                all.cpu.push(cpu / count as f64);
                all.notified.push(notified);
                all.p99.push(p99);
            }
        }
        let cpu = Spread::of(&all.cpu);
        let note = format!(
            "{count} streams, one fetch each on {CONNECTIONS} busy connections, {FLAGS} flags: {cpu} us, stream and \
             fetch; a request that does nothing costs {least:.1} us, so {:.2} times that",
            cpu.median / least
        );
        bench.report.add(herd.cpu, cpu.median, note);
        let time = Spread::of(&all.p99);
        let note = format!(
            "99 % had fetched it after {time} ms, the last stream was notified after {} ms",
            Spread::of(&all.notified)
        );
        bench.report.add(herd.time, time.median, note);
    }
    Ok(())
}

fn start(bench: &Bench, cloud: &Cloud<FakeHarness>) -> Result<Server> {
    let url = cloud.url();
    let sections = format!(
        "[harness]\nclient_service = {url:?}\nadmin_service = {url:?}\nmetric_service = {url:?}\naccount = \"bench\"\n\
         organization = \"bench\"\nadmin_token = {:?}\n[[harness.environments]]\napi_key = {KEY:?}",
        FakeHarness::ADMIN_TOKEN,
    );
    Setup::new(&bench.options, &url, &[])?.with(&sections).start()
}

fn token(server: &Server) -> Result<String> {
    let mut sdk = KeepAlive::open(server.sdks)?;
    let body = json!({ "apiKey": KEY }).to_string();
    let (status, answer) = sdk.send(&http::request("POST", "/client/auth", &[], body.as_bytes()))?;
    ensure!(status == 200, "a key was answered {status}");
    let answer: Value = serde_json::from_slice(answer)?;
    Ok(format!("Bearer {}", answer["authToken"].as_str().context("the answer has no token")?))
}

/// Measures the CPU of a request with a small constant response, in microseconds.
fn plain_request(server: &Server, load: &mut Load, count: usize) -> Result<f64> {
    let request = [http::request("GET", "/health", &[], b"")];
    let mut is_fine = |_: usize, _: &[u8]| Ok(());
    load.closed(&request, count, &mut is_fine)?.must_be_clean()?;
    let mark = server.process().cpu()?;
    load.closed(&request, count, &mut is_fine)?.must_be_clean()?;
    Ok(server.process().cpu_since(&mark)?.as_secs_f64() * 1e6 / count as f64)
}

/// Measures one change and its consequences: CPU in microseconds, milliseconds until every stream was notified, and
/// until 99 % had fetched the change.
fn stampede(
    cloud: &FakeHarness,
    server: &Server,
    swarm: &mut Swarm,
    load: &mut Load,
    herd: &Herd,
    version: usize,
) -> Result<(f64, f64, f64)> {
    std::thread::sleep(REST);
    let received = swarm.transcript().count();
    let flag = inputs::harness_flag(FLAG, version);
    let (mark, start) = (server.process().cpu()?, Instant::now());
    cloud.changes_flag(ENVIRONMENT, &flag);
    swarm.wait_for_events(received + 1)?;
    let notified = start.elapsed();
    let event = json!({"event": "patch", "domain": "flag", "identifier": FLAG, "version": version});
    swarm.transcript().expect(received, "*", &event)?;
    let (config, value) = (format!("\"version\":{version}"), format!("\"value\":\"text {version}"));
    let wanted = if herd.requests.len() == 1 { config } else { value };
    let mut answered = Vec::with_capacity(swarm.len());
    let mut check = |_: usize, body: &[u8]| {
        answered.push(start.elapsed().as_secs_f64() * 1e3);
        let is_new = body.windows(wanted.len()).any(|it| it == wanted.as_bytes());
        ensure!(is_new, "a client was notified of version {version} and fetched {}", String::from_utf8_lossy(body));
        Ok(())
    };
    load.closed(&herd.requests, swarm.len(), &mut check)?.must_be_clean()?;
    let cpu = server.process().cpu_since(&mark)?.as_secs_f64() * 1e6;
    Ok((cpu, notified.as_secs_f64() * 1e3, quantile(&answered, 0.99)))
}
