//! P1, P2, P10: many idle streams, and one small change for all of them, beside the floor.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::Bench;
use crate::cloud::Cloud;
use crate::floor::Floor;
use crate::goals::Figure;
use crate::inputs;
use crate::process::{CpuMark, Process};
use crate::server::{Server, Setup, sdk_key, stream_request};
use crate::stats::Spread;
use crate::swarm::Swarm;
use crate::transcript::chunk;

const ENVIRONMENT: &str = "crowd";
/// Streams that are being opened at a time; a storm is another measurement.
const CALMLY: usize = 256;
/// Size of the event that announces the change.
const PATCH_BYTES: usize = 1500;
/// After a round, until nobody works any more.
const REST: Duration = Duration::from_millis(60);

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let wanted = bench.options.streams.unwrap_or(bench.options.size(10_000, 2_000));
    let count = wanted.min(bench.machine.streams());
    if count < wanted {
        bench.report.note(format!("P1, P2 and P10 ran with {count} streams: the limit on open files allows no more"));
    }
    let cloud = Cloud::start()?;
    let data = inputs::small();
    cloud.puts(&sdk_key(ENVIRONMENT), &data);
    let server = Setup::new(&bench.options, &cloud.url(), &[ENVIRONMENT])?.start()?;
    server.settle()?;
    warm_up(&server)?;

    let process = server.process();
    let before = process.resident()?;
    let mut swarm = Swarm::new(server.sdks, stream_request(ENVIRONMENT))?;
    swarm.open(count, CALMLY, 1)?;
    swarm.transcript().expect(0, "put", &inputs::put_event(&data))?;
    std::thread::sleep(Duration::from_secs(2));
    let after = process.resident()?;
    let per_stream = after.saturating_sub(before) as f64 / count as f64 / 1024.0;
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    bench.report.add(
        Figure::IdleStreamMemory,
        per_stream,
        format!("{count} streams, resident {:.1} MiB without and {:.1} MiB with them", mib(before), mib(after)),
    );
    if bench.asks_for("p10") {
        idle(bench, process, count)?;
    }
    if bench.asks_for("p2") {
        deliveries(bench, &cloud, &server, &mut swarm, count)?;
    }
    drop(swarm);
    drop(server);
    if bench.asks_for("p1") && !bench.options.quick {
        large(bench, count.min(5_000))?;
    }
    Ok(())
}

/// What is set up once and for all is not part of a stream.
fn warm_up(server: &Server) -> Result<()> {
    let mut swarm = Swarm::new(server.sdks, stream_request(ENVIRONMENT))?;
    swarm.open(64, 64, 1)?;
    drop(swarm);
    std::thread::sleep(Duration::from_millis(500));
    Ok(())
}

fn idle(bench: &mut Bench, process: Process, count: usize) -> Result<()> {
    let mark = process.cpu()?;
    let start = Instant::now();
    std::thread::sleep(bench.options.size(Duration::from_secs(15), Duration::from_secs(5)));
    let used = process.cpu_since(&mark)?;
    let share = 100.0 * used.as_secs_f64() / start.elapsed().as_secs_f64();
    bench.report.add(
        Figure::IdleCpu,
        share,
        format!(
            "{used:?} in {:.0} s with {count} streams; heartbeats, every 3 minutes by default, are not in it",
            start.elapsed().as_secs_f64()
        ),
    );
    Ok(())
}

fn deliveries(bench: &mut Bench, cloud: &Cloud, server: &Server, swarm: &mut Swarm, count: usize) -> Result<()> {
    // This process holds the other ends of both crowds, and may not have enough sockets for two equal ones.
    let floor_count = count.min(bench.machine.streams() - count);
    ensure!(
        floor_count > 0,
        "no files are left for the floor; raise `ulimit -n` or use fewer streams with `--streams`"
    );
    let mut floor = Floor::start()?;
    let greeting = [swarm.head(), &chunk(swarm.transcript().raw(0))].concat();
    floor.greet(&greeting)?;
    let mut floor_swarm = Swarm::new(floor.address, stream_request(ENVIRONMENT))?;
    floor_swarm.open(floor_count, CALMLY, 1)?;

    let rounds = bench.options.size(15, 5);
    let (mut of_server, mut of_floor, mut times) = (Vec::new(), Vec::new(), Vec::new());
    let micros = |process: Process, mark: &CpuMark, count: usize| -> Result<f64> {
        Ok(process.cpu_since(mark)?.as_secs_f64() * 1e6 / count as f64)
    };
    // The first round of each warms up and does not count.
    for round in 0..=rounds {
        let flag = inputs::patch(round + 1, PATCH_BYTES);
        let mark = server.process().cpu()?;
        let start = Instant::now();
        cloud.patches(&sdk_key(ENVIRONMENT), &flag);
        swarm.hear(round + 2)?;
        let took = start.elapsed();
        std::thread::sleep(REST);
        let used = micros(server.process(), &mark, count)?;
        swarm.transcript().expect(round + 1, "patch", &inputs::patch_event(&flag))?;

        let bytes = chunk(swarm.transcript().raw(round + 1));
        let mark = floor.process().cpu()?;
        floor.send(&bytes)?;
        floor_swarm.hear(round + 2)?;
        std::thread::sleep(REST);
        let least = micros(floor.process(), &mark, floor_count)?;
        ensure!(
            floor_swarm.transcript().raw(round + 1) == swarm.transcript().raw(round + 1),
            "the floor wrote other bytes"
        );
        if round > 0 {
            of_server.push(used);
            of_floor.push(least);
            times.push(took.as_secs_f64() * 1e3);
        }
    }
    let ratios: Vec<f64> = of_server.iter().zip(&of_floor).map(|(server, floor)| server / floor).collect();
    let size = swarm.transcript().raw(1).len();
    bench.report.add(
        Figure::DeliveryOverFloor,
        Spread::of(&ratios).median,
        format!(
            "{count} streams ({floor_count} on the floor), {size} B; gateway {} us, floor {} us, ratio {}; all had it after {} ms",
            Spread::of(&of_server),
            Spread::of(&of_floor),
            Spread::of(&ratios),
            Spread::of(&times),
        ),
    );
    Ok(())
}

/// The same memory, when everything that each stream was given at first is large.
fn large(bench: &mut Bench, count: usize) -> Result<()> {
    let cloud = Cloud::start()?;
    let data = inputs::of_size(1_000_000);
    cloud.puts(&sdk_key(ENVIRONMENT), &data);
    let server = Setup::new(&bench.options, &cloud.url(), &[ENVIRONMENT])?.start()?;
    server.settle()?;
    warm_up(&server)?;
    let before = server.process().resident()?;
    let mut swarm = Swarm::new(server.sdks, stream_request(ENVIRONMENT))?;
    swarm.open(count, CALMLY, 1)?;
    swarm.transcript().expect(0, "put", &inputs::put_event(&data))?;
    std::thread::sleep(Duration::from_secs(2));
    let after = server.process().resident()?;
    let per_stream = after.saturating_sub(before) as f64 / count as f64 / 1024.0;
    let size = swarm.transcript().raw(0).len();
    bench.report.add(
        Figure::IdleStreamMemoryLarge,
        per_stream,
        format!("{count} streams that were given {size} B each"),
    );
    Ok(())
}
