//! Exit codes of sysexits(3), by which process supervisors distinguish permanent from temporary failures.

use std::process::ExitCode;

/// A failure that ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// The command line is invalid (`EX_USAGE`).
    Usage = 64,
    /// An address is in use by another program or another gateway (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// An error in the program itself (`EX_SOFTWARE`).
    Software = 70,
    /// The system provides no threads, signals or memory (`EX_OSERR`).
    System = 71,
    /// The data folder cannot be created or written (`EX_CANTCREAT`).
    CannotCreate = 73,
    /// Another process holds the lock of the data folder (`EX_TEMPFAIL`).
    Temporary = 75,
    /// The configuration, or a file that it names, cannot be used (`EX_CONFIG`).
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
