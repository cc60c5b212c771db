//! The exit code of each kind of error.

use std::process::ExitCode;

use crate::config::ConfigError;
use crate::exit::Exit;
use crate::logging;
use crate::startup::{self, StartupError};

/// Returns the exit code for an error of a start.
pub(crate) fn exit_code(error: &anyhow::Error) -> Exit {
    let of_folder = |error: &yardarm_wasm::OpenError| match error {
        yardarm_wasm::OpenError::Engine(_) => Exit::System,
    };
    None.or_else(|| error.downcast_ref::<ConfigError>().map(|_| Exit::Config))
        .or_else(|| error.downcast_ref::<StartupError>().map(StartupError::exit))
        .or_else(|| error.downcast_ref().map(startup::vendor_exit))
        .or_else(|| error.downcast_ref().map(of_folder))
        .unwrap_or(Exit::Software)
}

/// Prints an error and returns its exit code.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    logging::print_error(&format!("error: {}", with_causes(error)));
    exit_code(error).into()
}

/// Formats an error with its causes, except for causes whose text it already contains.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_named_once() {
        let missing = || std::io::Error::other("no such file");
        for (error, expected) in [
            (anyhow::Error::new(missing()), "no such file"),
            (anyhow::Error::new(missing()).context("cannot start"), "cannot start: no such file"),
            (anyhow::Error::new(missing()).context("cannot read: no such file"), "cannot read: no such file"),
        ] {
            assert_eq!(with_causes(&error), expected);
        }
    }
}
