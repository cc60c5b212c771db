//! Exit codes, as in sysexits(3), so that supervisors can tell a mistake from a passing trouble.

use std::process::ExitCode;

use crate::config::ConfigError;
use crate::logging;
use crate::startup::StartupError;

/// Why the process ends without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// The command line cannot be understood (`EX_USAGE`).
    Usage = 64,
    /// An address is taken, by another program or another gateway (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// A fault of the program (`EX_SOFTWARE`).
    Software = 70,
    /// The system refuses threads, signals or memory (`EX_OSERR`).
    System = 71,
    /// The data folder cannot be made or written (`EX_CANTCREAT`).
    CannotCreate = 73,
    /// Another process has the data folder (`EX_TEMPFAIL`).
    Temporary = 75,
    /// The configuration, or a file that it names, cannot be used (`EX_CONFIG`).
    Config = 78,
}

impl Exit {
    /// The code for an error of a start.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        use yardarm_harness::StartError as Harness;
        use yardarm_launchdarkly::StartError as LaunchDarkly;
        let of_launchdarkly = |error: &LaunchDarkly| match error {
            LaunchDarkly::Archive { .. } => Self::Config,
            LaunchDarkly::DataDir { .. } => Self::CannotCreate,
            LaunchDarkly::Http(_) | LaunchDarkly::Threads(_) => Self::System,
        };
        let of_harness = |error: &Harness| match error {
            Harness::Offline(_) | Harness::NoSecret => Self::Config,
            Harness::DataDir { .. } | Harness::Secret { .. } => Self::CannotCreate,
            Harness::Http(_) | Harness::Threads(_) => Self::System,
        };
        let of_folder = |error: &yardarm_wasm::OpenError| match error {
            yardarm_wasm::OpenError::Engine(_) => Self::System,
        };
        None.or_else(|| error.downcast_ref::<ConfigError>().map(|_| Self::Config))
            .or_else(|| error.downcast_ref::<StartupError>().map(StartupError::exit))
            .or_else(|| error.downcast_ref().map(of_launchdarkly))
            .or_else(|| error.downcast_ref().map(of_harness))
            .or_else(|| error.downcast_ref().map(of_folder))
            .unwrap_or(Self::Software)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Reports an error, and gives the exit code that stands for it.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    logging::print_error(&format!("error: {}", with_causes(error)));
    Exit::of(error).into()
}

/// An error with its causes, except for those that it names itself.
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
