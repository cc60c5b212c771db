//! P12: the cost of a change of one flag, by the number of flags beside it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Bench;
use crate::cloud::Cloud;
use crate::goals::Figure;
use crate::http::{self, KeepAlive};
use crate::inputs;
use crate::server::{Server, Setup, env_id, sdk_key, stream_request};
use crate::swarm::{Protocol, Swarm};

const ENVIRONMENT: &str = "growing";
const FLAG_BYTES: usize = 1_700;
const INTERVAL: Duration = Duration::from_millis(100);
/// The number of flags to which the goal applies, and those that are compared with it.
const MAIN: usize = 10_000;
const SIZES: [usize; 4] = [100, 1_000, MAIN, 50_000];
/// Until the last change is on disk.
const SETTLED: Duration = Duration::from_secs(1);

/// The cost of a change.
struct Cost {
    flags: usize,
    /// CPU beyond that of the idle process.
    microseconds: f64,
    idle_microseconds: f64,
    written: f64,
}

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let sizes = bench.options.size(&SIZES[..], &SIZES[..3]);
    let costs = sizes.iter().map(|flags| measure_size(bench, *flags)).collect::<Result<Vec<_>>>()?;
    let main = costs.iter().find(|it| it.flags == MAIN).context("the main size was not measured")?;
    let (least, most) = (&costs[0], &costs[costs.len() - 1]);
    let each = costs.iter().map(|it| {
        let Cost { flags, microseconds, idle_microseconds, written } = it;
        format!("{flags} flags {microseconds:.0} us (idle {idle_microseconds:.0} us), {written:.0} B written")
    });
    let note = each.collect::<Vec<_>>().join("; ");
    bench.report.add(Figure::PatchCpu, main.microseconds, note);
    let note = format!("{} flags over {}", most.flags, least.flags);
    bench.report.add(Figure::PatchGrowth, most.microseconds / least.microseconds.max(1.0), note);
    bench.report.add(Figure::PatchBytes, main.written / FLAG_BYTES as f64, format!("{FLAG_BYTES} B per flag"));
    Ok(())
}

fn measure_size(bench: &Bench, count: usize) -> Result<Cost> {
    let cloud = Cloud::start()?;
    let key = sdk_key(ENVIRONMENT);
    let flags = inputs::of_flag_size(count, FLAG_BYTES);
    cloud.puts(&key, &flags);
    let server = Setup::new(&bench.options, &cloud.url(), &[ENVIRONMENT])?.start()?;
    server.settle()?;
    evaluate(&server)?;
    let mut stream = Swarm::of(Protocol::Plain, server.sdks, stream_request(ENVIRONMENT))?;
    stream.open(1, 1, 1)?;

    let names: Vec<&Value> = flags["flags"].as_object().context("no flags")?.values().collect();
    let mut changed = 0;
    let mut change = |rounds: usize| -> Result<()> {
        let mut flag = Value::Null;
        for _ in 0..rounds {
            changed += 1;
            // A step through all of them that is never the neighbour of the one before.
            flag = names[changed * 7_919 % names.len()].clone();
            flag["version"] = (1_000 + changed).into();
            cloud.patches(&key, &flag);
            std::thread::sleep(INTERVAL);
        }
        wait_for(&server, &flag)?;
        std::thread::sleep(SETTLED);
        Ok(())
    };
    change(5)?;
    let rounds = bench.options.size(60, 15);
    let process = server.process();
    let mark = process.cpu()?;
    std::thread::sleep(INTERVAL * u32::try_from(rounds)? + SETTLED);
    let idle = process.cpu_since(&mark)?;
    let (mark, written) = (process.cpu()?, process.written()?);
    change(rounds)?;
    let used = process.cpu_since(&mark)?;
    let per_round = |time: Duration| time.as_secs_f64() * 1e6 / rounds as f64;
    Ok(Cost {
        flags: count,
        microseconds: per_round(used.saturating_sub(idle)),
        idle_microseconds: per_round(idle),
        written: (process.written()? - written) as f64 / rounds as f64,
    })
}

/// Evaluates everything once, because only environments with client-side SDKs are compiled.
fn evaluate(server: &Server) -> Result<()> {
    let context = inputs::contexts(1).remove(0);
    let path = format!("/sdk/evalx/{}/contexts/{context}", env_id(ENVIRONMENT));
    let (status, _) = KeepAlive::open(server.sdks)?.send(&http::request("GET", &path, &[], b""))?;
    ensure!(status == 200, "an evaluation was answered {status}");
    Ok(())
}

/// Waits until SDKs receive this version of a flag.
fn wait_for(server: &Server, flag: &Value) -> Result<()> {
    let path = format!("/sdk/flags/{}", flag["key"].as_str().unwrap_or_default());
    let request = http::request("GET", &path, &[("Authorization", &sdk_key(ENVIRONMENT))], b"");
    let mut client = KeepAlive::open(server.sdks)?;
    server.wait("change", || {
        let (status, body) = client.send(&request)?;
        Ok(status == 200 && serde_json::from_slice::<Value>(body)?["version"] == flag["version"])
    })
}
