//! How the tools end: one document or some lines on standard output, errors on standard error, and an exit code.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use yardarm_core::supervisor;
use yardarm_wasm::LoadError;

use crate::cli::admin_client::AdminAddress;
use crate::cli::output;
use crate::logging;

/// Exit codes of the tools, which scripts compare like those of other build tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum ToolExit {
    /// A file or an order was refused, a case failed, something cannot be written, or a gateway cannot be reached.
    Refused = 1,
    /// The command line is invalid.
    Usage = 2,
}

/// The form of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Aligned lines.
    Text,
    /// One JSON document.
    Json,
}

/// Why a tool has no result.
#[derive(Debug, Serialize)]
pub(super) struct ToolError {
    /// The file that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The address of the gateway that has refused something, or does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    /// The stable code of a refusal (see "Error codes" in `plugins/README.md`).
    code: Option<&'static str>,
    /// Its class.
    class: Option<&'static str>,
    text: String,
}

/// The document of a tool that has no result.
#[derive(Serialize)]
struct FailedDocument<'a> {
    is_fine: bool,
    error: &'a ToolError,
}

/// The document of a tool with a result.
#[derive(Serialize)]
struct Document<'a, T> {
    is_fine: bool,
    #[serde(flatten)]
    result: &'a T,
}

/// A result of a tool.
pub(super) trait Report: Serialize {
    /// Returns whether nothing was refused and nothing failed.
    fn is_fine(&self) -> bool {
        true
    }

    /// Returns the lines for people, each with its end.
    fn text(&self) -> String;
}

impl From<ToolExit> for ExitCode {
    fn from(exit: ToolExit) -> Self {
        Self::from(exit as u8)
    }
}

impl ToolError {
    /// Creates the error for a file that was refused.
    pub(super) fn refused(file: &Path, error: &LoadError) -> Self {
        let (code, class) = (Some(error.code()), Some(error.class()));
        Self { code, class, ..Self::of_file(file, error) }
    }

    /// Creates the error for a file or folder that cannot be read or written, or has invalid content.
    pub(super) fn of_file(file: &Path, text: impl fmt::Display) -> Self {
        let file = Some(file.display().to_string());
        Self { file, gateway: None, code: None, class: None, text: text.to_string() }
    }

    /// Creates an error about no file in particular.
    #[cfg(feature = "demo")]
    pub(super) fn general(text: impl Into<String>) -> Self {
        Self { file: None, gateway: None, code: None, class: None, text: text.into() }
    }

    /// Creates the error for what a running gateway has refused, or for its silence.
    pub(super) fn of_gateway(address: &AdminAddress, text: impl Into<String>) -> Self {
        Self { file: None, gateway: Some(address.to_string()), code: None, class: None, text: text.into() }
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.file.iter().chain(&self.gateway);
        place.into_iter().try_for_each(|place| write!(f, "{place}: "))?;
        if let (Some(code), Some(class)) = (self.code, self.class) {
            write!(f, "{code} {class}: ")?;
        }
        f.write_str(&self.text)
    }
}

/// Runs a tool on a thread that may block, and prints its result.
pub(super) async fn finish<R: Report + Send + 'static>(
    format: Format,
    tool: impl FnOnce() -> Result<R, ToolError> + Send + 'static,
) -> ExitCode {
    let result = supervisor::blocking("plugin tool", tool).await;
    conclude(format, result.unwrap_or_else(|error| Err(ToolError::of_file(Path::new("yardarm"), error))))
}

/// Prints the result of a tool, and returns the exit code for it.
pub(super) fn conclude<R: Report>(format: Format, result: Result<R, ToolError>) -> ExitCode {
    match result {
        Ok(report) => {
            let is_fine = report.is_fine();
            match format {
                Format::Text => output(&report.text()),
                Format::Json => print_json(&Document { is_fine, result: &report }),
            }
            if is_fine { ExitCode::SUCCESS } else { ToolExit::Refused.into() }
        }
        Err(error) => {
            print_failure(format, &error);
            ToolExit::Refused.into()
        }
    }
}

/// Prints why a tool has no result.
pub(super) fn print_failure(format: Format, error: &ToolError) {
    match format {
        Format::Text => logging::print_error(&format!("error: {error}")),
        Format::Json => print_json(&FailedDocument { is_fine: false, error }),
    }
}

fn print_json(document: &impl Serialize) {
    match serde_json::to_string_pretty(document) {
        Ok(text) => output(&format!("{text}\n")),
        Err(error) => logging::print_error(&format!("error: the result cannot be written as JSON: {error}")),
    }
}

/// Reads a whole file.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, ToolError> {
    std::fs::read(file).map_err(|error| ToolError::of_file(file, format!("cannot be read: {error}")))
}

/// Replaces or creates a file, so that other programs see the old content or the new one.
pub(super) fn write(file: &Path, content: &[u8]) -> Result<(), ToolError> {
    let replace = || -> io::Result<()> {
        let folder = file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        // The leading dot keeps it out of a plugin folder.
        let temporary = folder.join(format!(".{name}.{}.part", std::process::id()));
        std::fs::write(&temporary, content)?;
        std::fs::rename(&temporary, file).inspect_err(|_| {
            // The first error counts.
            let _ = std::fs::remove_file(&temporary);
        })
    };
    replace().map_err(|error| ToolError::of_file(file, format!("cannot be written: {error}")))
}
