//! Exit codes, as in sysexits(3), so that supervisors can tell a mistake from a passing trouble.

use std::process::ExitCode;

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

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
