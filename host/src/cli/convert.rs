//! `yardarm convert`: writes the configuration of another relay as a file for `yardarm run`.

use std::process::ExitCode;

use super::{load_of_relay, output};
use crate::logging;
use crate::process::failed;

/// First lines of the file.
const HEAD: &str = "\
# Written by `yardarm convert`. Each value has its source as a comment. Secrets from variables are read from the same
# variables; others are below as they were in the file, so protect this file like that one.

";

/// Converts the configuration of a relay: its name and its flags.
pub(super) fn convert(relay: &[String]) -> ExitCode {
    match load_of_relay(relay) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                logging::print_error(&format!("warning: {warning}"));
            }
            output(&format!("{HEAD}{}", loaded.to_document()));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error.into()),
    }
}
