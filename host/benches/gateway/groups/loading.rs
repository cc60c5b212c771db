//! P9: from a new file in the folder to an active plugin.

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::Bench;
use crate::cloud::Cloud;
use crate::components;
use crate::folder::Folder;
use crate::goals::Figure;
use crate::inputs;
use crate::server::{Setup, sdk_key};
use crate::stats::Spread;

const ENVIRONMENT: &str = "loading";
const STEM: &str = "request-gate";
/// The size that the goal refers to.
const LARGE: usize = 1_000_000;

const BINDING: &[u8] = br#"
[plugin]
name = "request-gate"
[plugin.config]
tokens = ["never asked for"]
[[bind]]
hook = "request-auth"
environments = ["loading"]
required = false
"#;

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let component = bench.options.sample(STEM)?;
    let large = components::grown(&component, LARGE)?;
    let cloud = Cloud::start()?;
    cloud.puts(&sdk_key(ENVIRONMENT), &inputs::small());
    let setup = Setup::new(&bench.options, &cloud.url(), &[ENVIRONMENT])?;
    let server = setup.start()?;
    server.settle()?;
    let mut folder = Folder::new(setup.plugins(), &server)?;
    folder.put(&format!("{STEM}.toml"), BINDING)?;

    let rounds = bench.options.size(5, 2);
    let mut times = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for round in 0..rounds {
        for (index, base) in [&component, &large].into_iter().enumerate() {
            let file = components::variant(base, round);
            times[index].push(load(&mut folder, &file, false)?);
            times[index + 2].push(load(&mut folder, &file, true)?);
        }
    }
    let [small_first, large_first, small_again, large_again] = times.each_ref().map(|it| Spread::of(it));
    bench.report.add(
        Figure::LoadFirst,
        large_first.median,
        format!("{} B {large_first} s, {} B {small_first} s", large.len(), component.len()),
    );
    let millis =
        |spread: Spread| format!("{:.0} ({:.0} to {:.0})", spread.median * 1e3, spread.least * 1e3, spread.most * 1e3);
    bench.report.add(
        Figure::LoadCompiled,
        large_again.median * 1e3,
        format!("{} B {} ms, {} B {} ms", large.len(), millis(large_again), component.len(), millis(small_again)),
    );
    Ok(())
}

/// Returns the seconds until a new file is active; removes the file afterwards.
fn load(folder: &mut Folder, file: &[u8], was_compiled: bool) -> Result<f64> {
    let name = format!("{STEM}.wasm");
    let before = folder.generation()?;
    let start = Instant::now();
    folder.put(&name, file)?;
    let (generation, row) = folder.wait_for(before, STEM, "active")?;
    let took = start.elapsed().as_secs_f64();
    let compiled_before = row["active"]["compiled_before"] == true;
    ensure!(compiled_before == was_compiled, "compiled before: {compiled_before}, which was to be {was_compiled}");
    folder.remove(&name)?;
    folder.wait_for(generation, STEM, "missing")?;
    Ok(took)
}
