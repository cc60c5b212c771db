//! P19: the same event filter in every language: until it is active for the first time, what a call costs, and what memory
//! it leaves behind.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::Bench;
use crate::awake::Awake;
use crate::cloud::Cloud;
use crate::filter_calls;
use crate::folder::Folder;
use crate::goals::Figure;
use crate::inputs;
use crate::server::{Setup, sdk_key};
use crate::stats::Spread;

const ENVIRONMENT: &str = "languages";
/// Language, and its figures: call with one event, call with 100 events, first activation.
type Row = (&'static str, Option<[Figure; 2]>, Option<Figure>);
const LANGUAGES: [Row; 6] = [
    ("wat", Some([Figure::TextOneEvent, Figure::TextBatch]), None),
    ("c", Some([Figure::COneEvent, Figure::CBatch]), None),
    ("rust", Some([Figure::RustOneEvent, Figure::RustBatch]), None),
    ("javascript", None, Some(Figure::JavaScriptActivation)),
    ("go", None, None),
    ("python", None, Some(Figure::PythonActivation)),
];
const EVENT_BYTES: usize = 300;
/// Minimum interval of batches, and the part of it that calls may take: the figure is that of one call, not of a queue.
const PACE: Duration = Duration::from_millis(4);
const BUSY: f64 = 0.3;
/// Number of batches before the plugin, whose memory is not counted as the plugin's.
const WARM_UP: usize = 500;
/// How long the allocator and the engine get to return memory of a plugin that is gone.
const SETTLING: Duration = Duration::from_secs(5);

/// What was measured of one language.
struct Measured {
    activation: f64,
    /// One event, whose body is read.
    one: Spread,
    /// 100 events, of which the kinds are read.
    kinds: Spread,
    /// 100 events, whose bodies are read.
    bodies: Spread,
    /// Resident MiB before, while the plugin runs, and after its removal.
    memory: [f64; 3],
}

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let mut notes = Vec::new();
    let mut left = Vec::new();
    for (language, calls, activation) in LANGUAGES {
        let measured = measure_language(bench, language)?;
        let Measured { activation: seconds, one, kinds, bodies, memory: [before, with, after] } = measured;
        let note = format!(
            "{language}: active after {seconds:.2} s, call {one} us with one event, {kinds} us with the kinds of \
             100, {bodies} us with their bodies; resident {before:.0} MiB before, {with:.0} with it, {after:.0} after its removal"
        );
        if let Some([of_one, of_batch]) = calls {
            bench.report.add(of_one, one.median, note.clone());
            bench.report.add(of_batch, kinds.median, String::new());
        }
        if let Some(figure) = activation {
            bench.report.add(figure, seconds, note.clone());
        }
        left.push(after - before);
        notes.push(note);
    }
    let most = left.iter().copied().fold(f64::MIN, f64::max);
    bench.report.add(Figure::MemoryLeft, most, notes.join("; "));
    Ok(())
}

/// Measures one language in a gateway of its own, which has never compiled the component.
fn measure_language(bench: &Bench, language: &str) -> Result<Measured> {
    let (component, binding) = bench.options.example(language)?;
    let stem = format!("{language}-event-filter");
    let cloud = Cloud::start()?;
    cloud.puts(&sdk_key(ENVIRONMENT), &inputs::small());
    let setup = Setup::new(&bench.options, &cloud.url(), &[ENVIRONMENT])?
        .with("send_events = true")
        .with("events_capacity = 1000000")
        .with("events_flush_interval = \"500ms\"")
        .with_plugins("cpu_share = 1000\ntotal_cpu_share = 100");
    let server = setup.start()?;
    server.settle()?;
    let mut folder = Folder::new(setup.plugins(), &server)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    // What traffic leaves behind is not the plugin's.
    filter_calls::post(&server, ENVIRONMENT, &serde_json::to_vec(&inputs::events(100, EVENT_BYTES))?, (WARM_UP, PACE))?;
    std::thread::sleep(SETTLING);
    let before = mib(server.process().resident()?);

    let binding_file = format!("{stem}.toml");
    folder.put(&binding_file, binding.as_bytes())?;
    let (generation, start) = (folder.generation()?, Instant::now());
    folder.put(&format!("{stem}.wasm"), &component)?;
    let (generation, row) = folder.wait_for(generation, &stem, "active")?;
    let activation = start.elapsed().as_secs_f64();
    ensure!(row["active"]["compiled_before"] == false, "the component was compiled before");

    let _awake = Awake::start();
    let (rounds, per_round) = bench.options.size((10, 50), (3, 20));
    let measure = |count: usize| -> Result<Spread> {
        let events = serde_json::to_vec(&inputs::events(count, EVENT_BYTES))?;
        let mut pace = 100 * PACE;
        let mut means = Vec::new();
        for round in 0..=rounds {
            let mean = filter_calls::mean(
                &server,
                (ENVIRONMENT, &stem),
                &events,
                (if round == 0 { 3 } else { per_round }, pace),
            )?;
            pace = PACE.max(Duration::from_secs_f64(mean / 1e6 / BUSY));
            if round > 0 {
                means.push(mean);
            }
        }
        Ok(Spread::of(&means))
    };
    let (one, bodies) = (measure(1)?, measure(100)?);
    // Without an attribute to blank, the filter needs no bodies. That in text never does.
    let kinds_only: String =
        binding.lines().filter(|line| !line.starts_with("attribute")).map(|it| format!("{it}\n")).collect();
    let generation = if kinds_only == binding {
        generation
    } else {
        folder.put(&binding_file, kinds_only.as_bytes())?;
        folder.wait_for(generation, &stem, "active")?.0
    };
    let kinds = measure(100)?;
    let with = mib(server.process().resident()?);
    for extension in ["toml", "wasm"] {
        folder.remove(&format!("{stem}.{extension}"))?;
    }
    // An event filter is required, so its place fails closed until it is retired.
    folder.put(&format!("{stem}.retired"), b"")?;
    folder.wait_for(generation, &stem, "retired")?;
    std::thread::sleep(SETTLING);
    let after = mib(server.process().resident()?);
    Ok(Measured { activation, one, kinds, bodies, memory: [before, with, after] })
}
