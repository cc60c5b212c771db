//! The running gateway that a command talks to: its address, its token, and its errors.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use yardarm_core::Secret;
use yardarm_core::secret::is_sendable;

use super::outcome::{ToolError, read};
use super::table::printable;
use crate::cli::admin_client::AdminAddress;
use crate::cli::variables;
use crate::config::{self, Overrides};

/// Longest time for a response. An order is answered when it is in force.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Where the address comes from, for errors.
const ADDRESS_HELP: &str = "is the gateway running there? Its address is `--admin`, or else YARDARM_ADMIN_LISTEN, or else \
                            `admin.listen` in the configuration file (`--config`)";
/// Where the token comes from, for errors.
const TOKEN_HELP: &str = "no token was found: give its file with `--token-file`, or set YARDARM_ADMIN_TOKEN or `admin.token` \
                          in the configuration file (`--config`)";

/// Arguments of commands that talk to a gateway.
#[derive(Debug, Args)]
pub(super) struct GatewayArgs {
    /// Admin listener of the gateway [default: YARDARM_ADMIN_LISTEN, or `admin.listen` in the configuration file, or
    /// 127.0.0.1:8040]
    #[arg(long, value_name = "HOST:PORT", value_parser = AdminAddress::parse)]
    admin: Option<AdminAddress>,
    /// Configuration file of the gateway [default: yardarm.toml in this folder, if there is one]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File with the token of operators [default: YARDARM_ADMIN_TOKEN, or `admin.token` in the configuration file]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A running gateway.
pub(super) struct RunningGateway {
    address: AdminAddress,
    /// An error if it is there and cannot be read.
    token: Result<Option<Secret>, String>,
}

impl GatewayArgs {
    /// Finds address and token.
    ///
    /// # Errors
    /// If the configuration file or the file of the token cannot be used.
    pub(super) fn find(&self) -> Result<RunningGateway, ToolError> {
        let token = self.token_file.as_deref().map(read_token).transpose()?;
        if let (Some(address), Some(token)) = (&self.admin, &token) {
            return Ok(RunningGateway { address: address.clone(), token: Ok(Some(token.clone())) });
        }
        let configured = config::load_admin(self.config.as_deref(), &Overrides::of_program(variables()));
        let configured = configured.map_err(|error| {
            let file = self.config.as_deref().unwrap_or(Path::new("yardarm.toml"));
            ToolError::of_file(file, error)
        })?;
        Ok(RunningGateway {
            address: self.admin.clone().unwrap_or_else(|| configured.listen.into()),
            token: token.map_or(configured.token, |token| Ok(Some(token))),
        })
    }
}

impl RunningGateway {
    /// Returns the document of a route that needs no token.
    pub(super) async fn get(&self, path: &str) -> Result<Value, ToolError> {
        self.send(&Method::GET, path, None).await
    }

    /// Sends an order, with the token; returns the document of the response.
    pub(super) async fn post(&self, path: &str) -> Result<Value, ToolError> {
        self.send(&Method::POST, path, self.token()?).await
    }

    /// Returns the document of a route that needs the token.
    pub(super) async fn get_as_operator(&self, path: &str) -> Result<Value, ToolError> {
        self.send(&Method::GET, path, self.token()?).await
    }

    fn token(&self) -> Result<Option<&Secret>, ToolError> {
        let token = self.token.as_ref().map_err(|error| self.error(format!("{error}; or give `--token-file`")))?;
        Ok(token.as_ref())
    }

    async fn send(&self, method: &Method, path: &str, token: Option<&Secret>) -> Result<Value, ToolError> {
        let answer = self.address.send(method, path, token, TIMEOUT).await;
        let answer = answer.map_err(|error| self.error(format!("no answer: {error}; {ADDRESS_HELP}")))?;
        let document: Option<Value> = serde_json::from_str(&answer.body).ok();
        match (answer.status, document) {
            (200, Some(document)) => Ok(document),
            (200, None) => Err(self.error(format!("the answer to {path} is not JSON; {ADDRESS_HELP}"))),
            (401, _) if token.is_none() => Err(self.error(TOKEN_HELP)),
            (status, document) => Err(match document.as_ref().and_then(|it| it["error"].as_str()) {
                Some(error) => self.error(error),
                None => self.error(format!("{method} {path} was answered {status}: {}", answer.body.trim())),
            }),
        }
    }

    /// Reads the part of a document that a command uses.
    pub(super) fn parse<T: DeserializeOwned>(&self, document: Value) -> Result<T, ToolError> {
        serde_json::from_value(document)
            .map_err(|error| self.error(format!("the gateway is of another version: {error}")))
    }

    /// Creates an error about this gateway.
    pub(super) fn error(&self, text: impl Into<String>) -> ToolError {
        ToolError::of_gateway(&self.address, printable(&text.into()))
    }
}

fn read_token(file: &Path) -> Result<Secret, ToolError> {
    let text = String::from_utf8(read(file)?).unwrap_or_default();
    let token = Secret::new(text.trim());
    if token.is_empty() || !is_sendable(token.expose()) {
        return Err(ToolError::of_file(file, "must contain the token of `admin.token` and nothing else"));
    }
    Ok(token)
}
