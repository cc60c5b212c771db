//! `yardarm plugin check`: whether a gateway would load a plugin, and as what.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use yardarm_wasm::{Bind, CheckReport, Compiler, OperatorFiles};

use super::outcome::{Format, Report, ToolError, finish};
use super::table::{Table, bytes};

/// Arguments of `plugin check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Compiles the component in a process with limits, creates instances, calls `init`, and runs the cases in \
    its manifest. Without --binding, the plugin gets no grants and no configuration, as when it is dropped without a binding file.\n\n\
    Example:\n  yardarm plugin check request-gate.wasm --binding request-gate.toml"
)]
pub(super) struct CheckArgs {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The binding file
    #[arg(long, value_name = "FILE")]
    binding: Option<PathBuf>,
    /// The folder with a file per secret that the configuration may refer to
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
}

#[derive(Serialize)]
struct Checked {
    file: PathBuf,
    #[serde(flatten)]
    report: CheckReport,
}

pub(super) async fn run(args: CheckArgs, format: Format) -> ExitCode {
    finish(format, move || {
        let operator = OperatorFiles { binding: args.binding, secrets_dir: args.secrets };
        let result = yardarm_wasm::check_file(&args.file, &operator, Compiler::this_program());
        let report = result.map_err(|error| ToolError::refused(&args.file, &error))?;
        Ok(Checked { file: args.file, report })
    })
    .await
}

impl Report for Checked {
    fn text(&self) -> String {
        let report = &self.report;
        let mut table = Table::default();
        table.row("plugin", format!("{} {} {}", report.name, report.version, report.about));
        table.row("file", format!("{}, {}", self.file.display(), bytes(report.bytes as u64)));
        table.row("sha256", &*report.sha256);
        table.row(
            "grants",
            match report.grants.join(", ") {
                none if none.is_empty() => "none".to_owned(),
                grants => grants,
            },
        );
        table.row("compiling", format!("{} ms", report.compile_ms));
        table.row("instance", format!("{} µs, {} of memory", report.fresh_instance_us, bytes(report.instance_memory)));
        table.rows("binding", report.binds.iter().map(describe));
        table.text() + "fine: a gateway loads it\n"
    }
}

/// Describes a binding with all its effective values.
fn describe(bind: &Bind) -> String {
    let join = |names: Vec<String>| if names.is_empty() { "all".to_owned() } else { names.join(", ") };
    format!(
        "{} in {}; sdk {}; routes {}; phase {}, priority {}; on_failure {}, required {}; {} ms, {} MiB; isolation {}",
        bind.hook,
        join(bind.environments.iter().map(ToString::to_string).collect()),
        join(bind.sdk.iter().map(ToString::to_string).collect()),
        join(bind.routes.iter().map(ToString::to_string).collect()),
        word(&bind.phase),
        bind.priority,
        bind.on_failure.name(),
        word(&bind.required),
        bind.deadline.as_millis(),
        bind.memory_mb,
        bind.isolation.as_ref().map_or_else(|| "by measurement".to_owned(), word),
    )
}

/// Returns a value as in a binding file.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).map_or_else(|_| String::new(), |it| it.to_string().replace('"', ""))
}
