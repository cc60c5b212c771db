//! Why a database operation failed: one short text, and a class that operators can act on.

use std::fmt;
use std::sync::Arc;

use ::redis::{ErrorKind, RedisError, ServerError};

/// Longest text of a failure, in bytes.
const MAX_TEXT: usize = 200;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or refused.
    #[error("{0}")]
    Redis(RedisFailure),
    /// There was no answer in time.
    #[error("database did not answer in time")]
    TimedOut,
}

/// What Redis or the way to it answered in place of a result. A refused transaction is one failure, however many
/// commands it had.
#[derive(Debug, Clone)]
pub struct RedisFailure {
    trouble: Trouble,
    text: Arc<str>,
}

/// Class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No connection, no answer in time, or an answer that is not Redis'.
    Unreachable,
    /// The login, or a command, is not permitted.
    Denied,
    /// The database does not take writes, as a replica.
    ReadOnly,
    /// The database is part of a cluster, or keys of one transaction are at different places in it.
    Cluster,
    /// The memory limit of the database is reached.
    Full,
    /// The database takes no writes because it cannot save what it holds to its disk.
    Unsaved,
    /// A key holds a value of another type: another program uses the same name.
    WrongType,
    /// The database is loading its data, or waits for its primary.
    Busy,
    /// Anything else that it answers.
    Refused,
}

impl StoreError {
    /// Returns the class of the failure.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Redis(failure) => failure.trouble,
            Self::TimedOut => Trouble::Unreachable,
        }
    }
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        Self::Redis(RedisFailure::from(error))
    }
}

impl From<RedisError> for RedisFailure {
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

/// The first failure that is a cause, and how many commands failed besides.
fn of_server(errors: &[(usize, ServerError)]) -> (Trouble, String) {
    // `EXECABORT` only repeats that a command of the transaction was refused.
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

/// A text of the database or of its client as one line of a log shows it.
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

impl fmt::Display for RedisFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Trouble {
    /// All classes.
    pub const ALL: [Self; 9] = [
        Self::Unreachable,
        Self::Denied,
        Self::ReadOnly,
        Self::Cluster,
        Self::Full,
        Self::Unsaved,
        Self::WrongType,
        Self::Busy,
        Self::Refused,
    ];

    /// Returns the class of a failure by the first word of Redis' answer.
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

    /// Returns the word for it in reports and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
            Self::ReadOnly => "read-only",
            Self::Cluster => "cluster",
            Self::Full => "full",
            Self::Unsaved => "unsaved",
            Self::WrongType => "wrong-type",
            Self::Busy => "busy",
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
