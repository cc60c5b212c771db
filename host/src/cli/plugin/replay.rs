//! `yardarm plugin replay`: repeats calls that failed in a gateway.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use yardarm_wasm::{Capture, Compiler, OperatorFiles, ReplayReport};

use super::captures::CapturesDocument;
use super::cases_file::of_test;
use super::outcome::{Format, Report, ToolError, finish, read};
use super::table::printable;

/// Arguments of `plugin replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0 means that every call fails as it did, or with `--fixed` that none fails any more. The masks of a capture \
    can hide what made a call fail; see `plugins.capture_plain`.\n\n\
    Example:\n  yardarm plugin replay failed.jsonl gate.wasm --binding gate.toml"
)]
pub(super) struct ReplayArgs {
    /// The failed calls, as `yardarm plugin captures` prints them
    #[arg(value_name = "CAPTURES")]
    captures: PathBuf,
    /// The component that is called
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The binding file, whose configuration, grants and limits apply in place of those of the capture
    #[arg(long, value_name = "FILE")]
    binding: Option<PathBuf>,
    /// The folder with a file per secret
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
    /// Require that no call fails any more
    #[arg(long)]
    fixed: bool,
}

#[derive(Serialize)]
struct Replayed {
    file: PathBuf,
    #[serde(skip)]
    wants_fixed: bool,
    #[serde(flatten)]
    report: ReplayReport,
}

pub(super) async fn run(args: ReplayArgs, format: Format) -> ExitCode {
    finish(format, move || {
        let ReplayArgs { captures: source, file, binding, secrets, fixed } = args;
        let operator = OperatorFiles { binding, secrets_dir: secrets };
        let captures = read_captures(&source)?;
        let result = yardarm_wasm::replay_file(&file, &operator, &captures, Compiler::this_program());
        let report = result.map_err(|error| of_test(&file, Some(&source), &error))?;
        Ok(Replayed { file, wants_fixed: fixed, report })
    })
    .await
}

/// Reads captures: one per line, or a document with all of them.
fn read_captures(path: &Path) -> Result<Vec<Capture>, ToolError> {
    let bytes = read(path)?;
    if let Ok(CapturesDocument { captures }) = serde_json::from_slice(&bytes) {
        return Ok(captures);
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| ToolError::of_file(path, error))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let capture = |(index, line): (usize, &str)| {
        let fault = |error| ToolError::of_file(path, format!("line {}: {error}", index + 1));
        serde_json::from_str(line).map_err(fault)
    };
    let captures: Vec<Capture> = lines.map(capture).collect::<Result<_, _>>()?;
    if captures.is_empty() {
        return Err(ToolError::of_file(path, "there are no captures; write them with `yardarm plugin captures NAME`"));
    }
    Ok(captures)
}

impl Report for Replayed {
    fn is_fine(&self) -> bool {
        let calls = &self.report.calls;
        if self.wants_fixed { calls.iter().all(|it| it.is_fixed()) } else { calls.iter().all(|it| it.is_reproduced) }
    }

    // Writing to a `String` cannot fail.
    fn text(&self) -> String {
        let mut text = String::new();
        for call in &self.report.calls {
            let now = match (call.is_reproduced, call.is_fixed()) {
                (true, _) => "fails in the same way",
                (false, true) => "does not fail",
                (false, false) => "fails in another way",
            };
            let failed = printable(&format!("{}: {}", call.class, call.text));
            let _ = writeln!(
                text,
                "{} {}: {now}\n    version {} failed with {failed}",
                call.number, call.hook, call.version
            );
            if !call.is_reproduced {
                let reply = serde_json::to_string(&call.reply).unwrap_or_default();
                let _ = writeln!(text, "    now: {}", printable(&reply));
            }
        }
        let count = self.report.calls.iter().filter(|it| it.is_reproduced).count();
        text + &format!("{count} of {} calls fail in the same way\n", self.report.calls.len())
    }
}
