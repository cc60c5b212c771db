//! `yardarm plugin explain`: which plugins decided about a request.

use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};
use yardarm_vendor::url;

use super::gateway::GatewayArgs;
use super::outcome::{Format, Report, ToolError, conclude};
use super::table::{columns, printable};

/// Arguments of `plugin explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without a ticket, the command creates one, which is valid for five minutes. Send the request that is to be explained \
    with the ticket in the header `yardarm-explain`, then read it. The gateway must have a token: `admin.token` in its configuration.\n\n\
    Example:\n  yardarm plugin explain --config yardarm.toml\n  curl -H \"yardarm-explain: $TICKET\" -H \"Authorization: $SDK_KEY\" \
    http://127.0.0.1:8030/sdk/flags\n  yardarm plugin explain $TICKET --config yardarm.toml"
)]
pub(super) struct ExplainArgs {
    /// The ticket whose requests are explained
    #[arg(value_name = "TICKET")]
    ticket: Option<String>,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// A new ticket.
#[derive(Serialize, Deserialize)]
struct Ticket {
    ticket: String,
    header: String,
    valid_s: u64,
}

/// What its requests have caused.
#[derive(Serialize, Deserialize)]
struct Explanation {
    calls: Vec<Call>,
}

#[derive(Serialize, Deserialize)]
struct Call {
    request: String,
    environment: String,
    route: String,
    hook: String,
    plugin: String,
    version: Option<String>,
    generation: Option<u64>,
    outcome: String,
    text: Option<String>,
    us: u64,
    cpu_us: u64,
}

pub(super) async fn run(args: ExplainArgs, format: Format) -> ExitCode {
    match &args.ticket {
        None => conclude(format, create(&args.gateway).await),
        Some(ticket) => conclude(format, read(&args.gateway, ticket).await),
    }
}

async fn create(gateway: &GatewayArgs) -> Result<Ticket, ToolError> {
    let gateway = gateway.find()?;
    gateway.parse(gateway.post("/api/explain").await?)
}

async fn read(gateway: &GatewayArgs, ticket: &str) -> Result<Explanation, ToolError> {
    let gateway = gateway.find()?;
    gateway.parse(gateway.get_as_operator(&format!("/api/explain/{}", url::encoded(ticket))).await?)
}

impl Report for Ticket {
    fn text(&self) -> String {
        let Self { ticket, header, valid_s } = self;
        format!(
            "{header}: {ticket}\n\nSend the request with this header within {valid_s} seconds, then: yardarm plugin explain {ticket}\n"
        )
    }
}

impl Report for Explanation {
    fn text(&self) -> String {
        if self.calls.is_empty() {
            return "no plugin was called, or no request with this ticket has come\n".to_owned();
        }
        let mut lines = String::new();
        let mut calls = &self.calls[..];
        while let Some(first) = calls.first() {
            let count = calls.iter().take_while(|call| call.request == first.request).count();
            let (request, rest) = calls.split_at(count);
            lines += &printable(&format!("request {} {}", first.request, first.route));
            lines.push('\n');
            lines += &columns(&request.iter().map(|call| (call.cells(), Vec::new())).collect::<Vec<_>>());
            calls = rest;
        }
        lines
    }
}

impl Call {
    fn cells(&self) -> [String; 6] {
        let version = self.version.as_deref().unwrap_or_default();
        [
            format!("  {}", printable(&self.environment)),
            printable(&self.hook),
            printable(&format!("{} {version}", self.plugin)),
            printable(&self.outcome),
            format!("{} µs", self.us),
            printable(self.text.as_deref().unwrap_or_default()),
        ]
    }
}
