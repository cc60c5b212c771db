//! Settings as text: sources and precedence, expected formats, and errors that name the key and the fix.
//!
//! Three steps with three types: [`Values`] hold the values of file, environment and arguments; a [`Reader`] converts
//! them to the `Config` of each part and collects every error; only then are files and ports opened.

mod declare;
mod document;
mod read;
mod references;
mod schema;
mod shown;
mod values;

use std::time::Duration;

use serde_json::Value;

pub use self::declare::{PathOrNone, Setting, Size, Url, Within, concat_keys, count_keys, path_in_entry};
pub use self::read::Reader;
pub use self::schema::schema;
pub use self::values::{CompatOverride, Effective, Place, ValueSource, Values, nearest};

/// One key of the configuration. The list of all keys is the reference manual; [`settings!`](crate::settings!) declares
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Path with dots; `[]` stands for the entries of a list.
    pub path: &'static str,
    /// Expected format of the value.
    pub kind: Kind,
    /// Default, as written in the file without quotes; empty means none. An empty value counts as not set: the default
    /// applies, except for [`Kind::OptionalPath`].
    pub default: &'static str,
    /// Meaning, unit and effect, in one or two sentences.
    pub about: &'static str,
    /// Allowed range of a count or a duration; `None` if every one is allowed.
    pub bounds: Option<Bounds>,
}

/// An allowed range, inclusive at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// Least and greatest count.
    Count(u64, u64),
    /// Shortest and longest duration.
    Duration(Duration, Duration),
}

/// The expected format of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Bool,
    /// A non-negative integer.
    Count,
    /// A duration such as `5s`, `3m`, `250ms`; `0s` is allowed where the description allows it.
    Duration,
    /// A size such as `64KiB`, `5MiB` or a number of bytes.
    Size,
    /// `address:port`.
    Address,
    /// `http://…` or `https://…`.
    Url,
    /// A list of texts; separated by commas in an environment variable.
    List,
    /// A text that is never shown, `{ env = "NAME" }` or `{ file = "path" }`.
    Secret,
    /// A file or folder.
    Path,
    /// A file or folder; an empty text means "none" and overrides the default.
    OptionalPath,
}

/// An invalid value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`{from}: {problem}")]
pub struct SettingError {
    /// Path of the key.
    pub key: String,
    /// The source of the value, as part of a sentence; empty for a missing value.
    pub from: String,
    /// The position of the value, if it comes from a file.
    pub place: Option<Place>,
    /// What is wrong, and how to fix it.
    pub problem: String,
}

impl Key {
    /// Returns whether a value counts as not set: templates often produce empty values.
    fn is_unset(&self, value: &Value) -> bool {
        self.kind != Kind::OptionalPath && is_empty(value)
    }

    /// Returns the name of the environment variable for this key; keys of lists contain the index:
    /// `…_ENVIRONMENTS_0_NAME`.
    #[must_use]
    pub fn variable(&self) -> String {
        variable(self.path)
    }
}

/// Returns whether a value is a blank text, or a list of blank texts only.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.iter().all(is_empty),
        _ => false,
    }
}

/// Returns the variable of a path: `server.listen` becomes `YARDARM_SERVER_LISTEN`; `a.b[2].c` becomes
/// `YARDARM_A_B_2_C`.
#[must_use]
pub fn variable(path: &str) -> String {
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
