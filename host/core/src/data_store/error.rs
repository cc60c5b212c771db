//! Errors of the store, and what they mean for the file.

use std::io;

/// Why the store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened, read or written at present.
    #[error("{0}")]
    Unavailable(String),
    /// The file is damaged, or not a store.
    #[error("{0}")]
    Damaged(String),
    /// The database failed unexpectedly, which was logged.
    #[error("the database failed unexpectedly")]
    Panicked,
    /// A value cannot be expressed in MessagePack.
    #[error("a value cannot be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    /// Too much waits to be written.
    #[error("too many changes wait to be written to disk")]
    Full,
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        let text = error.to_string();
        match error {
            redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. } => Self::Damaged(text),
            redb::Error::Io(error) => error.into(),
            _ => Self::Unavailable(text),
        }
    }
}

impl From<io::Error> for StoreError {
    /// An error that the operating system did not report is about the content.
    fn from(error: io::Error) -> Self {
        if error.raw_os_error().is_some() {
            Self::Unavailable(error.to_string())
        } else {
            Self::Damaged(error.to_string())
        }
    }
}

/// Implements the conversion of the database's errors, which have one type per operation.
macro_rules! from_database {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}

from_database!(redb::DatabaseError, redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);
