//! Measures what the gateway costs and compares it with the project's goals. `host/benches/README.md` explains each
//! figure.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is what the program is for")]

mod awake;
mod cloud;
mod components;
mod cores;
mod deliveries;
mod filter_calls;
mod floor;
mod folder;
mod goals;
mod groups;
mod http;
mod http2;
mod inputs;
mod load;
mod machine;
mod options;
mod process;
mod server;
mod stats;
mod swarm;
mod table;
mod transcript;
mod transport;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tokio::time::Instant;

use crate::goals::GOALS;
use crate::machine::Machine;
use crate::options::Options;
use crate::table::Report;

/// The context of a measurement.
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) machine: Machine,
    pub(crate) report: Report,
}

/// Goals that are measured together, with their function.
type Group = (&'static [&'static str], fn(&mut Bench) -> Result<()>);

const GROUPS: &[Group] = &[
    (&["p1", "p2", "p10"], groups::streams::measure),
    (&["p3"], groups::evaluation::measure),
    (&["p4"], groups::storm::measure),
    (&["p5"], groups::calls::measure),
    (&["p6"], groups::events::measure),
    (&["p7"], groups::swaps::measure),
    (&["p8"], groups::start::measure),
    (&["p9"], groups::loading::measure),
    (&["p11"], groups::start::size),
    (&["p12"], groups::growth::measure),
    (&["p13"], groups::footprint::measure),
    (&["p14"], groups::secure::measure),
    (&["p15"], groups::multiplexed::measure),
    (&["p16"], groups::request::measure),
    (&["p17"], groups::put::measure),
    (&["p18"], groups::bombs::measure),
    (&["p19"], groups::languages::measure),
    (&["h1", "h2"], groups::herd::measure),
];

fn main() -> ExitCode {
    let options = Options::parse();
    let result =
        if options.floor_server { floor::serve(options.floor_tls).map(|()| ExitCode::SUCCESS) } else { run(options) };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(options: Options) -> Result<ExitCode> {
    if let Some(unknown) = options.only.iter().find(|it| GOALS.iter().all(|goal| goal.id != it.to_ascii_lowercase())) {
        bail!("there is no goal `{unknown}`; `--only` takes a list such as `p1,p2,p10`, from p1 to p19, h1 and h2");
    }
    let mut bench = Bench { options, machine: Machine::prepare(), report: Report::default() };
    println!("measuring {}", bench.options.binary().display());
    println!("machine: {}", bench.machine);
    let mut has_failed = false;
    for (ids, measure) in GROUPS {
        let wanted: Vec<&str> = ids.iter().copied().filter(|id| bench.asks_for(id)).collect();
        if wanted.is_empty() {
            continue;
        }
        let (start, load) = (Instant::now(), machine::load());
        let result = measure(&mut bench).with_context(|| format!("{} could not be measured", wanted.join(", ")));
        println!("{:<12} {:>5.1} s, load {load} at the beginning", wanted.join(", "), start.elapsed().as_secs_f64());
        if let Err(error) = result {
            has_failed = true;
            eprintln!("error: {error:#}");
            let reason = error.root_cause().to_string();
            wanted_ids(ids, &wanted).for_each(|id| bench.report.give_up(id, reason.lines().next().unwrap_or_default()));
        }
    }
    bench.report.print(&bench.machine, |id| bench.asks_for(id), bench.options.baseline.as_deref())?;
    if let Some(path) = &bench.options.json {
        bench.report.write(path, &bench.machine, &bench.options.binary())?;
        println!("figures written to {}", path.display());
    }
    if bench.report.has_missed() {
        println!("some goals were missed; see host/benches/README.md on how to repeat and to find out why");
    }
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn wanted_ids<'a>(ids: &'a [&'static str], wanted: &'a [&str]) -> impl Iterator<Item = &'static str> + 'a {
    ids.iter().copied().filter(|id| wanted.contains(id))
}

impl Bench {
    /// Returns whether a goal is to be measured.
    pub(crate) fn asks_for(&self, id: &str) -> bool {
        self.options.only.is_empty() || self.options.only.iter().any(|it| it.eq_ignore_ascii_case(id))
    }
}
