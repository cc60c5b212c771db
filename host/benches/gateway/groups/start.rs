//! P8 and P11: a start without upstream, and the size of the binary.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::Bench;
use crate::cloud::Cloud;
use crate::goals::Figure;
use crate::inputs;
use crate::server::{Setup, sdk_key, stream_request};
use crate::stats::Spread;
use crate::swarm::Swarm;

const ENVIRONMENT: &str = "kept";

/// P8.
pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let data = inputs::of_size(1_000_000);
    let expected = inputs::put_event(&data);
    let cloud = Cloud::start()?;
    cloud.puts(&sdk_key(ENVIRONMENT), &data);
    let mut setup = Setup::new(&bench.options, &cloud.url(), &[ENVIRONMENT])?;
    let server = setup.start()?;
    server.settle()?;
    let store = setup.data().join("store.redb");
    server.wait("data on disk", || Ok(std::fs::metadata(&store).is_ok_and(|it| it.len() > 1_000_000)))?;
    // The file grows a moment before the data is committed.
    std::thread::sleep(Duration::from_secs(1));
    drop(server);
    drop(cloud);
    setup.cut_off();

    let (mut complete, mut listening) = (Vec::new(), Vec::new());
    for _ in 0..bench.options.size(15, 4) {
        let server = setup.start()?;
        listening.push(server.spawned.elapsed().as_secs_f64() * 1e3);
        let mut swarm = Swarm::new(server.sdks, stream_request(ENVIRONMENT))?;
        swarm.open(1, 1, 1)?;
        complete.push(server.spawned.elapsed().as_secs_f64() * 1e3);
        swarm.transcript().expect(0, "put", &expected).context("the data on disk differs from what the cloud sent")?;
        drop(server);
        std::thread::sleep(Duration::from_millis(50));
    }
    let complete = Spread::of(&complete);
    bench.report.add(
        Figure::ColdStart,
        complete.median,
        format!(
            "first complete put after {complete} ms, listening after {} ms; files in the page cache",
            Spread::of(&listening)
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
