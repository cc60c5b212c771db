//! P4: all clients reconnect at once and receive the full data.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Bench;
use crate::cloud::Cloud;
use crate::floor::Floor;
use crate::goals::Figure;
use crate::inputs;
use crate::process::Process;
use crate::server::{Setup, sdk_key, stream_request};
use crate::stats::Spread;
use crate::swarm::Swarm;
use crate::transcript::chunk;

const ENVIRONMENT: &str = "storm";

/// One storm.
struct Storm {
    seconds: f64,
    half: f64,
    /// CPU of the server, and of this program, which reads and compares everything.
    cpu: f64,
    own_cpu: f64,
    extra_mib: f64,
    greeting: Vec<u8>,
}

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let count = bench.options.size(5_000, 1_000).min(bench.machine.streams());
    let cloud = Cloud::start()?;
    let data = inputs::of_size(1_000_000);
    cloud.puts(&sdk_key(ENVIRONMENT), &data);
    let expected = inputs::put_event(&data);
    let mut storms = Vec::new();
    let mut floors = Vec::new();
    for _ in 0..bench.options.size(3, 1) {
        let server = Setup::new(&bench.options, &cloud.url(), &[ENVIRONMENT])?.start()?;
        server.settle()?;
        let before = server.process().resident()?;
        let mut swarm = Swarm::new(server.sdks, stream_request(ENVIRONMENT))?;
        let mut storm = blow(&mut swarm, server.process(), before, count)?;
        ensure!(swarm.transcript().count() == 1, "a stream got more than the one event it was to get");
        swarm.transcript().expect(0, "put", &expected)?;
        storm.greeting = [swarm.head(), &chunk(swarm.transcript().raw(0))].concat();
        drop(swarm);
        drop(server);

        let mut floor = Floor::start()?;
        floor.greet(&storm.greeting)?;
        std::thread::sleep(Duration::from_millis(100));
        let mut swarm = Swarm::new(floor.address, stream_request(ENVIRONMENT))?;
        let before = floor.process().resident()?;
        floors.push(blow(&mut swarm, floor.process(), before, count)?);
        storms.push(storm);
    }
    let all = |storms: &[Storm], figure: fn(&Storm) -> f64| Spread::of(&storms.iter().map(figure).collect::<Vec<_>>());
    let time = all(&storms, |it| it.seconds);
    let size = storms.first().map_or(0, |it| it.greeting.len());
    bench.report.add(
        Figure::StormTime,
        time.median,
        format!(
            "{count} streams of {size} B, verified; all served after {time} s, half of them after {} s, CPU {} s, of this program \
             {} s; floor: {} s, CPU {} s, of this program {} s",
            all(&storms, |it| it.half),
            all(&storms, |it| it.cpu),
            all(&storms, |it| it.own_cpu),
            all(&floors, |it| it.seconds),
            all(&floors, |it| it.cpu),
            all(&floors, |it| it.own_cpu),
        ),
    );
    let extra = all(&storms, |it| it.extra_mib);
    bench.report.add(
        Figure::StormMemory,
        extra.median,
        format!("peak {extra} MiB above what was resident before; floor {} MiB", all(&floors, |it| it.extra_mib)),
    );
    Ok(())
}

fn blow(swarm: &mut Swarm, process: Process, before: u64, count: usize) -> Result<Storm> {
    process.reset_peak()?;
    let own = Process(std::process::id());
    let (mark, own_mark) = (process.cpu()?, own.cpu()?);
    let served = swarm.open(count, count, 1)?;
    let cpu = process.cpu_since(&mark)?.as_secs_f64();
    let own_cpu = own.cpu_since(&own_mark)?.as_secs_f64();
    let peak = process.peak()?;
    let seconds = |it: Option<&Duration>| it.map(Duration::as_secs_f64).context("no stream was served");
    Ok(Storm {
        seconds: seconds(served.last())?,
        half: seconds(served.get(served.len() / 2))?,
        cpu,
        own_cpu,
        extra_mib: peak.saturating_sub(before) as f64 / (1 << 20) as f64,
        greeting: Vec::new(),
    })
}
