//! P14: streams over TLS, idle, and with one small change for all of them, compared with a floor that encrypts too.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::Bench;
use crate::cloud::Cloud;
use crate::deliveries::{CALMLY, Comparison};
use crate::floor::Floor;
use crate::goals::Figure;
use crate::inputs;
use crate::server::{Setup, sdk_key, stream_request};
use crate::stats::Spread;
use crate::swarm::{Protocol, Swarm};

const ENVIRONMENT: &str = "secure";
/// Time in which a write to one stream is certainly done.
const PER_STREAM: Duration = Duration::from_micros(60);

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let count = count(bench, "P14");
    let cloud = Cloud::start()?;
    let data = inputs::small();
    cloud.puts(&sdk_key(ENVIRONMENT), &data);
    let server = Setup::new(&bench.options, &cloud.url(), &[ENVIRONMENT])?.with_tls()?.start()?;
    server.settle()?;
    let request = stream_request(ENVIRONMENT);
    let (mut swarm, per_stream, note) = open(Protocol::Tls, &server, &request, count)?;
    swarm.transcript().expect(0, "put", &inputs::put_event(&data))?;
    bench.report.add(Figure::TlsStreamMemory, per_stream, note);

    let floor_count = count.min(bench.machine.streams() - count);
    ensure!(floor_count > 0, "no files are left for the floor; raise `ulimit -n` or use fewer streams");
    let mut floor = Floor::start_tls()?;
    let mut floor_swarm = Swarm::of(Protocol::Tls, floor.address, request)?;
    let comparison =
        Comparison { cloud: &cloud, environment: ENVIRONMENT, process: server.process(), per_stream: PER_STREAM };
    let rounds = bench.options.size(12, 4);
    let [late, early] = comparison.run(&mut swarm, &mut floor, &mut floor_swarm, floor_count, rounds)?;
    bench.report.add(
        Figure::TlsDelivery,
        Spread::of(&late.ratios()).median,
        format!(
            "{count} streams ({floor_count} on the floor), {} B; {late}; with readers that wait for each byte: {early}",
            swarm.transcript().raw(1).len(),
        ),
    );
    Ok(())
}

/// Returns the number of streams, and notes if the machine allows fewer than are wanted.
pub(super) fn count(bench: &mut Bench, goal: &str) -> usize {
    let wanted = bench.options.secure_streams.unwrap_or(bench.options.size(5_000, 1_000));
    let count = wanted.min(bench.machine.streams());
    if count < wanted {
        bench.report.note(format!("{goal} ran with {count} streams: the limit on open files allows no more"));
    }
    count
}

/// Opens streams, after others that exclude one-time setup; returns KiB of resident memory for each, with a note.
pub(super) fn open(
    protocol: Protocol,
    server: &crate::server::Server,
    request: &[u8],
    count: usize,
) -> Result<(Swarm, f64, String)> {
    let mut first = Swarm::of(protocol, server.sdks, request.to_vec())?;
    first.open(64, 64, 1)?;
    drop(first);
    std::thread::sleep(Duration::from_millis(500));
    let process = server.process();
    let before = process.resident()?;
    let mut swarm = Swarm::of(protocol, server.sdks, request.to_vec())?;
    swarm.open(count, CALMLY, 1)?;
    std::thread::sleep(Duration::from_secs(2));
    let after = process.resident()?;
    let per_stream = after.saturating_sub(before) as f64 / count as f64 / 1024.0;
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let note = format!("{count} streams, resident {:.1} MiB without and {:.1} MiB with them", mib(before), mib(after));
    Ok((swarm, per_stream, note))
}
