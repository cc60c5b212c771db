//! Failures of database operations: a short message, and a class that operators can act on.

use std::fmt;
use std::sync::Arc;

use ::redis::{ErrorKind, RedisError, ServerError};

/// Maximum length of a message in bytes.
const MAX_TEXT: usize = 200;

/// Why an operation failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database is unreachable, or returned an error.
    #[error("{0}")]
    Failed(Failure),
    /// There was no reply in time.
    #[error("database did not answer in time")]
    TimedOut,
}

/// The error that a database, or the connection to it, returned. A rejected transaction is one failure, however many
/// operations it had.
#[derive(Debug, Clone)]
pub struct Failure {
    trouble: Trouble,
    text: Arc<str>,
}

/// Class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No connection, no reply in time, or a reply in another protocol.
    Unreachable,
    /// The login or a command is not permitted.
    Denied,
    /// The database does not accept writes, being a replica.
    ReadOnly,
    /// The database is part of a cluster, or the keys of a transaction are in different slots.
    Cluster,
    /// The memory limit of the database is reached.
    Full,
    /// The database rejects writes because it cannot save its data to disk.
    Unsaved,
    /// A key has a value of another type: another program uses the same name.
    WrongType,
    /// The database is loading its data, waits for its primary, or limits the rate of requests.
    Busy,
    /// A part that operators create, such as a table, does not exist or has another form.
    Missing,
    /// Any other error.
    Refused,
}

impl StoreError {
    /// Returns the class of the failure.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Failed(failure) => failure.trouble,
            Self::TimedOut => Trouble::Unreachable,
        }
    }

    /// Returns whether a group of readers of a stream does not exist any more, because the database was emptied.
    #[must_use]
    pub fn is_missing_group(&self) -> bool {
        self.has_code("NOGROUP")
    }

    /// Returns whether the reply of the server is an error with this code.
    pub(crate) fn has_code(&self, code: &str) -> bool {
        matches!(self, Self::Failed(failure) if failure.text.trim_start_matches('"').starts_with(code))
    }
}

impl Failure {
    /// Creates a failure; the text is shortened to one line.
    pub(crate) fn new(trouble: Trouble, text: impl Into<String>) -> Self {
        Self { trouble, text: shortened(text.into()).into() }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        Self::Failed(Failure::from(error))
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let is_login = error.kind() == ErrorKind::AuthenticationFailed;
        let (trouble, text) = match error.clone().into_server_errors() {
            Some(errors) => of_server(&errors),
            None if is_login => (Trouble::Denied, error.to_string()),
            None => match error.kind() {
                ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType => {
                    (Trouble::of_code(error.code().unwrap_or_default()), error.to_string())
                }
                _ => (Trouble::Unreachable, error.to_string()),
            },
        };
        Self { trouble: if is_login { Trouble::Denied } else { trouble }, text: shortened(text).into() }
    }
}

/// Returns the class and text of the first failure that is a cause, with the number of further failures.
fn of_server(errors: &[(usize, ServerError)]) -> (Trouble, String) {
    // `EXECABORT` only repeats that a command of the transaction was rejected.
    let cause = errors.iter().map(|(_, error)| error).find(|it| it.code() != "EXECABORT");
    let Some(cause) = cause.or_else(|| errors.first().map(|(_, error)| error)) else {
        return (Trouble::Refused, "database refused the transaction".to_owned());
    };
    let mut text = cause.to_string();
    if errors.len() > 1 {
        text.push_str(&format!(" ({} commands refused)", errors.len()));
    }
    (Trouble::of_code(cause.code()), text)
}

/// Shortens a text of the database or its client to one log line.
fn shortened(text: String) -> String {
    let words: Vec<_> = text.split(|it: char| it.is_control()).map(str::trim).filter(|it| !it.is_empty()).collect();
    let mut text = words.join(" ");
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|it| text.is_char_boundary(*it)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Trouble {
    /// All classes.
    pub const ALL: [Self; 10] = [
        Self::Unreachable,
        Self::Denied,
        Self::ReadOnly,
        Self::Cluster,
        Self::Full,
        Self::Unsaved,
        Self::WrongType,
        Self::Busy,
        Self::Missing,
        Self::Refused,
    ];

    /// Returns the class of a failure by the first word of Redis' reply.
    fn of_code(code: &str) -> Self {
        match code {
            "READONLY" => Self::ReadOnly,
            "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" | "TRYAGAIN" => Self::Cluster,
            "OOM" => Self::Full,
            "MISCONF" => Self::Unsaved,
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::Denied,
            "WRONGTYPE" => Self::WrongType,
            "LOADING" | "MASTERDOWN" | "BUSY" => Self::Busy,
            _ => Self::Refused,
        }
    }

    /// Returns the name in reports and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
            Self::ReadOnly => "read-only",
            Self::Cluster => "cluster",
            Self::Full => "full",
            Self::Unsaved => "unsaved",
            Self::WrongType => "wrong-type",
            Self::Busy => "busy",
            Self::Missing => "missing",
            Self::Refused => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_redis_are_classified_by_their_first_word() {
        for (codes, trouble, word) in [
            (&["READONLY"][..], Trouble::ReadOnly, "read-only"),
            (&["MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN", "TRYAGAIN"], Trouble::Cluster, "cluster"),
            (&["OOM"], Trouble::Full, "full"),
            (&["MISCONF"], Trouble::Unsaved, "unsaved"),
            (&["NOAUTH", "WRONGPASS", "NOPERM"], Trouble::Denied, "denied"),
            (&["WRONGTYPE"], Trouble::WrongType, "wrong-type"),
            (&["LOADING", "MASTERDOWN", "BUSY"], Trouble::Busy, "busy"),
            (&["ERR", "", "oom"], Trouble::Refused, "refused"),
        ] {
            for code in codes {
                assert_eq!(Trouble::of_code(code), trouble, "{code}");
            }
            assert_eq!(trouble.as_str(), word);
        }
        assert_eq!(Trouble::Unreachable.as_str(), "unreachable");
    }

    #[test]
    fn texts_are_one_line_of_bounded_length() {
        assert_eq!(shortened("a\r\n b\tc\n\n".to_owned()), "a b c");
        let exact = "x".repeat(MAX_TEXT);
        assert_eq!(shortened(exact.clone()), exact);
        let long = shortened("ä".repeat(MAX_TEXT));
        assert!(long.ends_with("ä…") && long.len() <= MAX_TEXT + '…'.len_utf8(), "{}", long.len());
    }
}
