//! Settings as text: where a value came from, what it must look like, and errors that name key and fix.
//!
//! Three steps with three types: [`Values`] hold what file, environment and arguments say; a [`Reader`] turns them
//! into a part's own `Config`, collecting every error; only then does anything open a file or a port.

mod read;
mod references;
mod shown;
mod values;

use serde_json::Value;

pub use self::read::Reader;
pub use self::values::{CompatOverride, Effective, Place, ValueSource, Values};

/// One key of the configuration. The list of all keys is the reference manual.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Path with dots; `[]` stands for the entries of a list.
    pub path: &'static str,
    /// What a value must look like.
    pub kind: Kind,
    /// Default, as it would be written in the file without quotes; empty means none. An empty value is not a value:
    /// the default applies, except for [`Kind::OptionalPath`].
    pub default: &'static str,
    /// Meaning, unit and effect, as one or two sentences.
    pub about: &'static str,
}

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number from 0.
    Count,
    /// A time such as `5s`, `3m`, `250ms`; `0s` is allowed where the text says so.
    Duration,
    /// A size such as `64KiB`, `5MiB` or a number of bytes.
    Size,
    /// `address:port`.
    Address,
    /// `http://…` or `https://…`.
    Url,
    /// A list of texts; in a variable separated by commas.
    List,
    /// A text that is never shown, `{ env = "NAME" }` or `{ file = "path" }`.
    Secret,
    /// A file or folder.
    Path,
    /// A file or folder where an empty text means "none" and so wins over the default.
    OptionalPath,
}

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`{from}: {problem}")]
pub struct SettingError {
    /// Path of the key.
    pub key: String,
    /// Where the value came from, as part of a sentence; empty for a missing one.
    pub from: String,
    /// The same for a value from a file.
    pub place: Option<Place>,
    /// What is wrong and what would help.
    pub problem: String,
}

impl Key {
    /// Whether a value counts as not set: templates leave such values behind.
    fn is_unset(&self, value: &Value) -> bool {
        self.kind != Kind::OptionalPath && is_empty(value)
    }

    /// Name of the environment variable for this key; keys of lists carry the position: `…_ENVIRONMENTS_0_NAME`.
    #[must_use]
    pub fn variable(&self) -> String {
        variable(self.path)
    }
}

/// Whether a value is a blank text, or a list of nothing else.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.iter().all(is_empty),
        _ => false,
    }
}

/// `server.listen` becomes `YARDARM_SERVER_LISTEN`; `a.b[2].c` becomes `YARDARM_A_B_2_C`.
pub(crate) fn variable(path: &str) -> String {
    let mut name = String::from("YARDARM_");
    for character in path.chars() {
        match character {
            '.' | '[' => name.push('_'),
            ']' => (),
            other => name.push(other.to_ascii_uppercase()),
        }
    }
    name
}

#[cfg(test)]
mod tests;
