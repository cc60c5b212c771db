//! P13: resident memory of many environments, and of one large one.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::Bench;
use crate::cloud::Cloud;
use crate::goals::Figure;
use crate::inputs;
use crate::server::{Setup, sdk_key};

const FLAGS: usize = 200;
const FLAG_BYTES: usize = 1_025;
const LARGE_FLAGS: usize = 10_000;
const LARGE_FLAG_BYTES: usize = 1_700;
/// Until what a start needs is freed.
const SETTLED: Duration = Duration::from_secs(20);

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let count = bench.options.size(500, 50);
    let settled = bench.options.size(SETTLED, SETTLED / 4);
    let small = inputs::of_flag_size(FLAGS, FLAG_BYTES);
    let one = resident(bench, 1, &small, settled)?;
    let many = resident(bench, count, &small, settled)?;
    let per_environment = many.saturating_sub(one) as f64 / (count - 1) as f64 / 1e3;
    let json = small.to_string().len() as f64 / 1e3;
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let note = format!(
        "{count} environments of {FLAGS} flags, {json:.0} KB of JSON each; {:.0} MiB with one, {:.0} MiB with all",
        mib(one),
        mib(many)
    );
    bench.report.add(Figure::EnvironmentMemory, per_environment, note);

    let large = inputs::of_flag_size(LARGE_FLAGS, LARGE_FLAG_BYTES);
    let bytes = large.to_string().len() as f64;
    let resident = resident(bench, 1, &large, settled)?;
    let note = format!("{LARGE_FLAGS} flags, {:.1} MB of JSON; resident {:.0} MiB", bytes / 1e6, mib(resident));
    bench.report.add(Figure::MemoryOverJson, resident as f64 / bytes, note);
    Ok(())
}

/// Returns the resident bytes of a gateway with so many environments that contain the same flags.
fn resident(bench: &Bench, environments: usize, data: &Value, settled: Duration) -> Result<u64> {
    let cloud = Cloud::start()?;
    let names: Vec<String> = (0..environments).map(|index| format!("environment-{index:03}")).collect();
    for (index, name) in names.iter().enumerate() {
        let mut data = data.clone();
        for flag in data["flags"].as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
            // Environments of one project have the same flags, with their own salts and versions.
            flag["salt"] = format!("{index:032x}").into();
            flag["version"] = (index + 1).into();
        }
        cloud.puts(&sdk_key(name), &data);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let server = Setup::new(&bench.options, &cloud.url(), &names)?.start()?;
    server.settle()?;
    std::thread::sleep(settled);
    server.process().resident()
}
