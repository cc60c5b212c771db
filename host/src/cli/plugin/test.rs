//! `yardarm plugin test`: whether a plugin does what its cases expect.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use yardarm_wasm::{CaseOutcome, Compiler, Difference, OperatorFiles, TestReport};

use super::cases_file::{of_test, read_cases};
use super::outcome::{Format, Report, finish};
use super::table::bytes;

/// Arguments of `plugin test`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each line of the file of cases is a JSON object with an input and the expected reply. Each case is run on a \
    fresh instance, and once more on the same one; both replies must be as expected.\n\n\
    Example:\n  yardarm plugin test gate.wasm --cases gate.cases.jsonl\n\n  \
    {\"name\": \"no token\", \"hook\": \"request-auth\", \"request\": {\"headers\": {}}, \"expect\": {\"deny\": {\"class\": \"forbidden\"}}}"
)]
pub(super) struct TestArgs {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The cases, one JSON object per line [default: NAME.cases.jsonl beside the component, if it is there]; those in the
    /// manifest are always run
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// The binding file, whose configuration, grants and limits apply to cases that have none themselves
    #[arg(long, value_name = "FILE")]
    binding: Option<PathBuf>,
    /// The folder with a file per secret, for references that a case has no secret for
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
}

#[derive(Serialize)]
struct Tested {
    file: PathBuf,
    #[serde(flatten)]
    report: TestReport,
}

pub(super) async fn run(args: TestArgs, format: Format) -> ExitCode {
    finish(format, move || {
        let TestArgs { file, cases, binding, secrets } = args;
        let operator = OperatorFiles { binding, secrets_dir: secrets };
        let read = read_cases(&file, cases.as_deref())?;
        let result = yardarm_wasm::test_file(&file, &operator, &read, Compiler::this_program());
        let report = result.map_err(|error| of_test(&file, cases.as_deref(), &error))?;
        Ok(Tested { file, report })
    })
    .await
}

impl Report for Tested {
    fn is_fine(&self) -> bool {
        self.report.failed == 0
    }

    fn text(&self) -> String {
        let report = &self.report;
        let mut text = String::new();
        for case in &report.cases {
            describe(&mut text, case);
        }
        let total = report.cases.len();
        match report.failed {
            0 => text + &format!("{total} cases passed\n"),
            failed => text + &format!("{failed} of {total} cases failed\n"),
        }
    }
}

// Writing to a `String` cannot fail.
fn describe(text: &mut String, case: &CaseOutcome) {
    let figures = case.figures.map_or_else(String::new, |it| {
        format!("  instance {} µs, call {} µs, {}", it.instance_us, it.call_us, bytes(it.memory))
    });
    let _ =
        writeln!(text, "{} {}: {}{figures}", if case.is_passed { "ok    " } else { "FAILED" }, case.hook, case.name);
    for (place, differences) in [("", &case.fresh), (" on a reused instance", &case.reused)] {
        for Difference { field, expected, actual } in differences {
            let _ = writeln!(text, "       {field}{place}: expected {expected}, got {actual}");
        }
    }
    if !case.is_passed && !case.missing_grants.is_empty() {
        let _ = writeln!(text, "       read without a grant: {}", case.missing_grants.join(", "));
    }
}
