//! P15: streams over HTTP/2, one per connection, as an SDK opens them.

use std::time::Duration;

use anyhow::Result;

use super::secure;
use crate::Bench;
use crate::cloud::Cloud;
use crate::deliveries::{Comparison, Readers};
use crate::goals::Figure;
use crate::http2;
use crate::inputs;
use crate::server::{Setup, sdk_key};
use crate::stats::Spread;
use crate::swarm::Protocol;

const ENVIRONMENT: &str = "multiplexed";
/// Time in which a write to one stream is certainly done.
const PER_STREAM: Duration = Duration::from_micros(60);

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let count = secure::count(bench, "P15");
    let cloud = Cloud::start()?;
    let data = inputs::small();
    cloud.puts(&sdk_key(ENVIRONMENT), &data);
    let server = Setup::new(&bench.options, &cloud.url(), &[ENVIRONMENT])?.with_tls()?.start()?;
    server.settle()?;
    let key = sdk_key(ENVIRONMENT);
    let request = http2::request("/all", &[("authorization", &key), ("accept", "text/event-stream")]);
    let (mut swarm, per_stream, note) = secure::open(Protocol::Http2, &server, &request, count)?;
    swarm.transcript().expect(0, "put", &inputs::put_event(&data))?;
    let comparison =
        Comparison { cloud: &cloud, environment: ENVIRONMENT, process: server.process(), per_stream: PER_STREAM };
    let mut used = Vec::new();
    for received in 1..=bench.options.size(8, 3) {
        let (cpu, _) = comparison.deliver(&mut swarm, received, Readers::Late)?;
        used.push(cpu / count as f64);
    }
    // The first one is a warm-up.
    let deliveries = Spread::of(&used[1..]);
    let note =
        format!("{note}, TLS included; CPU per delivered patch {deliveries} us; the gateway has no HTTP/2 without TLS");
    bench.report.add(Figure::Http2StreamMemory, per_stream, note);
    Ok(())
}
