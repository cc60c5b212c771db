//! `yardarm plugin pack`: puts a manifest into a component.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::outcome::{Format, Report, ToolError, finish, read, write};

/// Arguments of `plugin pack`.
#[derive(Debug, Args)]
#[command(
    after_help = "The manifest is a JSON object: `name`, `version`, `about`, `grants` (each with `grant`, `why`, `optional`), `config` \
    (a JSON Schema), `state` (`none` or `cache`), `cases`. It replaces the manifest that the component has.\n\n\
    Example:\n  yardarm plugin pack gate.wasm --manifest manifest.json"
)]
pub(super) struct PackArgs {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The manifest
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The file to write [default: the component itself]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Packed {
    file: PathBuf,
    bytes: usize,
}

pub(super) async fn run(args: PackArgs, format: Format) -> ExitCode {
    finish(format, move || {
        let PackArgs { file, manifest, out } = args;
        let packed = yardarm_wasm::pack(&read(&file)?, &read(&manifest)?).map_err(|error| {
            let is_of_manifest = error.class() == "manifest-invalid";
            ToolError::refused(if is_of_manifest { &manifest } else { &file }, &error)
        })?;
        let out = out.unwrap_or(file);
        write(&out, &packed)?;
        Ok(Packed { file: out, bytes: packed.len() })
    })
    .await
}

impl Report for Packed {
    fn text(&self) -> String {
        format!("{}: {} bytes\n", self.file.display(), self.bytes)
    }
}
