//! `yardarm plugin captures`: failed calls that a running gateway has kept.

use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};
use yardarm_vendor::url;
use yardarm_wasm::Capture;

use super::gateway::GatewayArgs;
use super::outcome::{Format, Report, conclude};

/// Arguments of `plugin captures`.
#[derive(Debug, Args)]
#[command(
    after_help = "The gateway keeps failed calls if `plugins.capture` is on. Texts and numbers are masked, except in the classes of \
    `plugins.capture_plain`; credentials always are. Each line is a call, the newest first.\n\n\
    Example:\n  yardarm plugin captures gate --config yardarm.toml > failed.jsonl\n  yardarm plugin replay failed.jsonl gate.wasm"
)]
pub(super) struct CapturesArgs {
    /// Name of the plugin, or of its file without extension
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// The document of `/api/plugins/{name}/captures`.
#[derive(Serialize, Deserialize)]
pub(super) struct CapturesDocument {
    pub(super) captures: Vec<Capture>,
}

pub(super) async fn run(args: CapturesArgs, format: Format) -> ExitCode {
    let read = async {
        let gateway = args.gateway.find()?;
        let path = format!("/api/plugins/{}/captures", url::encoded(&args.name));
        gateway.parse::<CapturesDocument>(gateway.get_as_operator(&path).await?)
    };
    conclude(format, read.await)
}

impl Report for CapturesDocument {
    fn text(&self) -> String {
        let line = |capture| serde_json::to_string(capture).unwrap_or_default() + "\n";
        self.captures.iter().map(line).collect()
    }
}
