//! `yardarm plugin rollback, pin, unpin, promote, retire, reinstate, clear`: orders about a plugin of a running gateway.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use yardarm_vendor::url;
use yardarm_wasm::PluginAction;

use super::gateway::GatewayArgs;
use super::outcome::{Format, Report, conclude};
use super::table::printable;

/// Arguments of orders.
#[derive(Debug, Args)]
#[command(
    after_help = "The gateway must have a token: `admin.token` in its configuration. The command ends when the order is \
    in force.\n\nExamples:\n  yardarm plugin rollback request-gate --config /etc/yardarm/yardarm.toml\n  \
    yardarm plugin pin request-gate --admin 127.0.0.1:8040 --token-file /run/secrets/yardarm-token"
)]
pub(super) struct ControlArgs {
    /// Name of the plugin, or of its file without extension
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    gateway: GatewayArgs,
}

#[derive(Serialize)]
struct Ordered {
    name: String,
    #[serde(flatten)]
    document: Value,
}

pub(super) async fn run(action: PluginAction, args: ControlArgs, format: Format) -> ExitCode {
    let order = async {
        let path = format!("/api/plugins/{}/{action}", url::encoded(&args.name));
        let document = args.gateway.find()?.post(&path).await?;
        Ok(Ordered { name: args.name, document })
    };
    conclude(format, order.await)
}

impl Report for Ordered {
    fn text(&self) -> String {
        format!("{}: {}\n", self.name, printable(self.document["text"].as_str().unwrap_or_default()))
    }
}
