//! P1, P2, P10: many idle streams, and one small change for all of them, compared with the floor.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::Bench;
use crate::cloud::Cloud;
use crate::deliveries::{CALMLY, Comparison};
use crate::floor::Floor;
use crate::goals::Figure;
use crate::inputs;
use crate::process::Process;
use crate::server::{Server, Setup, sdk_key, stream_request};
use crate::stats::Spread;
use crate::swarm::Swarm;

const ENVIRONMENT: &str = "crowd";
/// Time in which a write to one stream is certainly done.
const PER_STREAM: Duration = Duration::from_micros(20);

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

/// Excludes one-time setup from the memory of a stream.
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
    // This process holds the other ends of both sets of streams, and may not have enough sockets for two equal ones.
    let floor_count = count.min(bench.machine.streams() - count);
    ensure!(
        floor_count > 0,
        "no files are left for the floor; raise `ulimit -n` or use fewer streams with `--streams`"
    );
    let mut floor = Floor::start()?;
    let mut floor_swarm = Swarm::new(floor.address, stream_request(ENVIRONMENT))?;
    let comparison = Comparison { cloud, environment: ENVIRONMENT, process: server.process(), per_stream: PER_STREAM };
    let rounds = bench.options.size(12, 4);
    let [late, early] = comparison.run(swarm, &mut floor, &mut floor_swarm, floor_count, rounds)?;
    bench.report.add(
        Figure::DeliveryOverFloor,
        Spread::of(&late.ratios()).median,
        format!(
            "{count} streams ({floor_count} on the floor), {} B; {late}; with readers that wait for each byte: {early}, all had it after {} ms",
            swarm.transcript().raw(1).len(),
            Spread::of(&early.millis),
        ),
    );
    Ok(())
}

/// Measures the memory again with a large first message for each stream.
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
