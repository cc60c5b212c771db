//! `yardarm plugin bench`: what the calls of a plugin cost.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use yardarm_wasm::{BenchReport, CaseCost, Compiler, OperatorFiles};

use super::cases_file::{of_test, read_cases};
use super::outcome::{Format, Report, ToolError, finish, read, write};
use super::table::bytes;

/// How much more instructions or memory than before is a regression, in percent.
const TOLERANCE: u64 = 10;

/// Arguments of `plugin bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Instructions are the same on each machine, so that they can be compared in continuous integration; times cannot.\n\n\
    Example:\n  yardarm plugin bench gate.wasm --save before.json\n  yardarm plugin bench gate.wasm --baseline before.json"
)]
pub(super) struct BenchArgs {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The cases whose calls are measured [default: NAME.cases.jsonl beside the component, if it is there], besides those in
    /// the manifest
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// The binding file, whose configuration, grants and limits apply
    #[arg(long, value_name = "FILE")]
    binding: Option<PathBuf>,
    /// The folder with a file per secret, for references that a case has no secret for
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
    /// A result that was saved before: fail if instructions or memory of a case have grown by more than 10 %
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Save the result to this file
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

#[derive(Serialize)]
struct Measured {
    file: PathBuf,
    #[serde(flatten)]
    report: BenchReport,
    /// What has grown since the baseline by more than the tolerance.
    regressions: Vec<Regression>,
    /// What exceeds the limits of the binding in most calls.
    over_limit: Vec<String>,
}

/// A figure that has grown.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Regression {
    case: String,
    figure: &'static str,
    before: u64,
    now: u64,
}

pub(super) async fn run(args: BenchArgs, format: Format) -> ExitCode {
    finish(format, move || {
        let BenchArgs { file, cases, binding, secrets, baseline, save } = args;
        let operator = OperatorFiles { binding, secrets_dir: secrets };
        let before = baseline.as_deref().map(read_baseline).transpose()?;
        let read = read_cases(&file, cases.as_deref())?;
        let result = yardarm_wasm::bench_file(&file, &operator, &read, Compiler::this_program());
        let report = result.map_err(|error| of_test(&file, cases.as_deref(), &error))?;
        if let Some(save) = save {
            let text = serde_json::to_vec_pretty(&report).map_err(|error| ToolError::of_file(&save, error))?;
            write(&save, &text)?;
        }
        let regressions = before.map_or_else(Vec::new, |before| regressions(&before, &report));
        let over_limit = report.cases.iter().filter_map(over_limit).collect();
        Ok(Measured { file, report, regressions, over_limit })
    })
    .await
}

fn read_baseline(file: &Path) -> Result<BenchReport, ToolError> {
    serde_json::from_slice(&read(file)?)
        .map_err(|error| ToolError::of_file(file, format!("not a saved result: {error}")))
}

fn regressions(before: &BenchReport, now: &BenchReport) -> Vec<Regression> {
    let mut found = Vec::new();
    for case in &now.cases {
        let Some(old) = before.cases.iter().find(|it| (&it.name, it.hook) == (&case.name, case.hook)) else { continue };
        for (figure, before, now) in [
            ("instructions", old.instructions, case.instructions),
            ("instance_instructions", old.instance_instructions, case.instance_instructions),
            ("memory", old.memory, case.memory),
        ] {
            if now > before.saturating_add(before.saturating_mul(TOLERANCE) / 100) {
                found.push(Regression { case: case.name.clone(), figure, before, now });
            }
        }
    }
    found
}

fn over_limit(case: &CaseCost) -> Option<String> {
    let (name, limit) = (&case.name, case.limits.deadline_ms);
    let call = case.reused.p50_us.max(case.fresh.p50_us);
    (call > limit * 1_000)
        .then(|| format!("`{name}`: half of the calls take {call} µs or more, the deadline is {limit} ms"))
}

impl Report for Measured {
    fn is_fine(&self) -> bool {
        self.regressions.is_empty() && self.over_limit.is_empty()
    }

    // Writing to a `String` cannot fail.
    fn text(&self) -> String {
        let mut text = String::new();
        let width = self.report.cases.iter().map(|case| case.name.chars().count()).max().unwrap_or(0).max(4);
        let _ = writeln!(
            text,
            "{:width$}  {:>13}  {:>13}  {:>13}  {:>8}  {:>12}",
            "case", "instance", "fresh call", "reused call", "memory", "instructions"
        );
        for case in &self.report.cases {
            let [instance, fresh, reused] =
                [case.instance, case.fresh, case.reused].map(|it| format!("{}/{}", it.p50_us, it.p99_us));
            let _ = writeln!(
                text,
                "{:width$}  {instance:>13}  {fresh:>13}  {reused:>13}  {:>8}  {:>12}",
                case.name,
                bytes(case.memory),
                case.instructions
            );
        }
        text += "times are p50/p99 in µs; a fresh call is one on a new instance, without its creation\n";
        if let Some(case) = self.report.cases.first() {
            let limits = case.limits;
            let _ = writeln!(text, "limits: {} ms and {} MiB for {}", limits.deadline_ms, limits.memory_mb, case.hook);
        }
        for line in &self.over_limit {
            let _ = writeln!(text, "OVER LIMIT {line}");
        }
        for Regression { case, figure, before, now } in &self.regressions {
            let _ = writeln!(text, "REGRESSION `{case}`: {figure} was {before}, is {now}");
        }
        text
    }
}
