//! How the tools end: one document or some lines on standard output, errors on standard error, and an exit code.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use yardarm_core::supervisor;
use yardarm_wasm::LoadError;

use crate::cli::output;
use crate::logging;

/// Exit codes of the tools, which scripts compare like those of other build tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum ToolExit {
    /// A file was refused, a case failed, or something cannot be written.
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
    file: String,
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
        Self { file: file.display().to_string(), code, class, text: error.to_string() }
    }

    /// Creates the error for a file or folder that cannot be read or written, or has invalid content.
    pub(super) fn of_file(file: &Path, text: impl fmt::Display) -> Self {
        Self { file: file.display().to_string(), code: None, class: None, text: text.to_string() }
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.class) {
            (Some(code), Some(class)) => write!(f, "{}: {code} {class}: {}", self.file, self.text),
            _ => write!(f, "{}: {}", self.file, self.text),
        }
    }
}

/// Runs a tool on a thread that may block, and prints its result.
pub(super) async fn finish<R: Report + Send + 'static>(
    format: Format,
    tool: impl FnOnce() -> Result<R, ToolError> + Send + 'static,
) -> ExitCode {
    let result = supervisor::blocking("plugin tool", tool).await;
    match result.unwrap_or_else(|error| Err(ToolError::of_file(Path::new("yardarm"), error))) {
        Ok(report) => {
            let is_fine = report.is_fine();
            match format {
                Format::Text => output(&report.text()),
                Format::Json => print_json(&Document { is_fine, result: &report }),
            }
            if is_fine { ExitCode::SUCCESS } else { ToolExit::Refused.into() }
        }
        Err(error) => {
            match format {
                Format::Text => logging::print_error(&format!("error: {error}")),
                Format::Json => print_json(&FailedDocument { is_fine: false, error: &error }),
            }
            ToolExit::Refused.into()
        }
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
