//! `yardarm plugin inspect`: what a component is and wants.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use yardarm_wasm::{InspectReport, StatePolicy};

use super::outcome::{Format, Report, ToolError, finish};
use super::table::{Table, bytes};

/// Arguments of `plugin inspect`.
#[derive(Debug, Args)]
#[command(
    after_help = "The component is neither compiled nor run, so any file can be inspected safely.\n\nExample:\n  \
    yardarm plugin inspect request-gate.wasm"
)]
pub(super) struct InspectArgs {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize)]
struct Inspected {
    file: PathBuf,
    #[serde(flatten)]
    report: InspectReport,
}

pub(super) async fn run(args: InspectArgs, format: Format) -> ExitCode {
    finish(format, move || {
        let report = yardarm_wasm::inspect_file(&args.file).map_err(|error| ToolError::refused(&args.file, &error))?;
        Ok(Inspected { file: args.file, report })
    })
    .await
}

impl Report for Inspected {
    fn text(&self) -> String {
        let report = &self.report;
        let mut table = Table::default();
        table.row("plugin", format!("{} {} {}", report.name, report.version, report.about));
        table.row("file", format!("{}, {}", self.file.display(), bytes(report.bytes as u64)));
        table.row("sha256", &*report.sha256);
        if !report.has_manifest {
            table.row("manifest", "none; the name is that of the file (add one with `yardarm plugin pack`)");
        }
        table.row("hooks", report.hooks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        table.rows(
            "grants",
            report.grants.iter().map(|it| {
                let why = if it.why.is_empty() { String::new() } else { format!("  {}", it.why) };
                format!("{}{why}{}", it.grant, if it.optional { "  (optional)" } else { "" })
            }),
        );
        table.rows(
            "limits",
            report
                .limits
                .iter()
                .map(|(hook, it)| format!("{hook}: {}  {}", it.describe(), it.why).trim_end().to_owned()),
        );
        table.rows(
            "imports",
            report.imports.iter().map(|it| match (it.grant, it.unavailable) {
                (Some(grant), _) => format!("{}  needs the grant `{grant}`", it.name),
                (None, Some(reason)) => format!("{}  not offered: {reason}", it.name),
                (None, None) => it.name.clone(),
            }),
        );
        table.rows("exports", report.exports.iter().cloned());
        table.row(
            "state",
            match report.state {
                Some(StatePolicy::None) => "none: calls never depend on earlier ones",
                Some(StatePolicy::Cache) => "cache: instances are reused and may keep what they like",
                None => "not declared",
            },
        );
        table.row(
            "config",
            match &report.config {
                Some(schema) => format!("JSON Schema, {}", properties(schema)),
                None => "no schema".to_owned(),
            },
        );
        table.rows(
            "modules",
            report.sizes.core_modules.iter().map(|module| {
                let (size, code, data) = (bytes(module.bytes), bytes(module.code_bytes), bytes(module.data_bytes));
                format!("{size}: {} functions in {code}, {data} of data", module.functions)
            }),
        );
        table.rows("sections", report.sizes.sections.iter().map(|(name, size)| format!("{name}  {}", bytes(*size))));
        table.rows(
            "produced",
            report.sizes.producers.iter().map(|it| format!("{} {} {}", it.field, it.name, it.version)),
        );
        table.text()
    }
}

/// Names the properties of a JSON Schema.
fn properties(schema: &serde_json::Value) -> String {
    match schema["properties"].as_object() {
        Some(properties) => properties.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "),
        None => "without properties".to_owned(),
    }
}
