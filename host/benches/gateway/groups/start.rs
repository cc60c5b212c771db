//! P8 and P11: a start without upstream, and the size of the binary.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Bench;
use crate::cloud::Cloud;
use crate::goals::Figure;
use crate::http;
use crate::inputs;
use crate::server::{Setup, sdk_key, stream_request};
use crate::stats::Spread;
use crate::swarm::Swarm;

const ENVIRONMENT: &str = "kept";

/// P8.
pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    start(bench, Figure::ColdStart, 1_000_000)?;
    start(bench, Figure::LargeStart, 17_000_000)
}

/// Starts the gateway again and again with an environment of `bytes` bytes in its data folder.
///
/// For the small environment the complete data has to arrive, for the large one a flag, because most of the time until
/// the complete data is there would be that of the client.
fn start(bench: &mut Bench, figure: Figure, bytes: usize) -> Result<()> {
    let data = inputs::of_size(bytes);
    let expected = inputs::put_event(&data);
    let cloud = Cloud::start()?;
    cloud.puts(&sdk_key(ENVIRONMENT), &data);
    let mut setup = Setup::new(&bench.options, &cloud.url(), &[ENVIRONMENT])?;
    let server = setup.start()?;
    server.settle()?;
    let store = setup.data().join("store.redb");
    server.wait("data on disk", || Ok(std::fs::metadata(&store).is_ok_and(|it| it.len() > bytes as u64)))?;
    // The file grows a moment before the data is committed.
    std::thread::sleep(Duration::from_secs(3));
    drop(server);
    drop(cloud);
    setup.cut_off();

    let key = data["flags"].as_object().and_then(|it| it.keys().next()).context("no flags")?.clone();
    let one = http::request("GET", &format!("/sdk/flags/{key}"), &[("authorization", &sdk_key(ENVIRONMENT))], b"");
    let (mut complete, mut answered, mut listening) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.options.size(15, 4) {
        let server = setup.start()?;
        listening.push(server.spawned.elapsed().as_secs_f64() * 1e3);
        let (status, _) = http::KeepAlive::open(server.sdks)?.send(&one)?;
        ensure!(status == 200, "a flag was answered {status}");
        answered.push(server.spawned.elapsed().as_secs_f64() * 1e3);
        let mut swarm = Swarm::new(server.sdks, stream_request(ENVIRONMENT))?;
        swarm.open(1, 1, 1)?;
        complete.push(server.spawned.elapsed().as_secs_f64() * 1e3);
        swarm.transcript().expect(0, "put", &expected).context("the data on disk differs from what the cloud sent")?;
        drop(server);
        std::thread::sleep(Duration::from_millis(50));
    }
    let [complete, answered, listening] = [complete, answered, listening].map(|it| Spread::of(&it));
    bench.report.add(
        figure,
        if figure == Figure::ColdStart { complete.median } else { answered.median },
        format!(
            "listening after {listening} ms, one flag after {answered} ms, first complete put after {complete} ms; \
             files in the page cache"
        ),
    );
    Ok(())
}

/// P11.
pub(crate) fn size(bench: &mut Bench) -> Result<()> {
    let path = bench.options.binary();
    let bytes = std::fs::metadata(&path).with_context(|| format!("no gateway at `{}`", path.display()))?.len();
    let has_symbols = std::fs::read(&path)?.windows(8).any(|it| it == b".symtab\0");
    let stripped = if has_symbols { "with symbols" } else { "stripped" };
    bench.report.add(Figure::BinarySize, bytes as f64 / 1e6, format!("{}, {stripped}", path.display()));
    bench.report.give_up("p11", "no image is built here; `docker image ls` after building one");
    Ok(())
}
