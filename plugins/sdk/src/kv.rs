//! Values that outlive calls and instances: counters, sessions, what was seen before. Needs the grant `kv`: a plugin that
//! calls any function of this module is rejected without it.
//!
//! ```
//! use std::time::Duration;
//! use yardarm_plugin::kv;
//!
//! let window = Some(Duration::from_secs(60));
//! assert_eq!(kv::increment("hits/ada", 1, window), Ok(1));
//! assert_eq!(kv::increment("hits/ada", 1, window), Ok(2));
//! ```
//!
//! Not available in `Plugin::new`, `payload-transform` and `evaluation-transform`. In native tests the values of each
//! thread are its own, and time does not pass.

use std::fmt;
use std::time::Duration;

use crate::PluginError;
#[cfg(target_family = "wasm")]
use crate::bindings::host::kv as host;
#[cfg(not(target_family = "wasm"))]
use crate::testing::kv as host;

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The value.
    pub value: Vec<u8>,
    /// Grows with each write of the key.
    pub version: u64,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KvError {
    /// The key or the value is too long, or [`increment`] found a value that is not a number.
    Invalid(String),
    /// The plugin has as many keys or bytes as it may have.
    Full,
    /// The values are not reachable, or the hook may not use them.
    Unavailable(String),
}

/// Returns the value of a key.
///
/// # Errors
///
/// See [`KvError`].
pub fn get(key: &str) -> Result<Option<Entry>, KvError> {
    let entry = host::get(key)?;
    Ok(entry.map(|entry| Entry { value: entry.value, version: entry.version }))
}

/// Writes a value, which is gone after `ttl`.
///
/// # Errors
///
/// See [`KvError`].
pub fn set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), KvError> {
    Ok(host::set(key, value, millis(ttl))?)
}

/// Writes a value if the key still has this version, or still has no value for `None`; returns whether it was written.
///
/// # Errors
///
/// See [`KvError`].
pub fn compare_and_set(key: &str, version: Option<u64>, value: &[u8], ttl: Option<Duration>) -> Result<bool, KvError> {
    Ok(host::compare_and_set(key, version, value, millis(ttl))?)
}

/// Adds to a counter and returns its new value; a key without a value counts as 0. `ttl` applies only if there was no
/// value, so that a counter covers a window of time that begins with its first increment.
///
/// # Errors
///
/// See [`KvError`].
pub fn increment(key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64, KvError> {
    Ok(host::increment(key, delta, millis(ttl))?)
}

/// Removes a value; returns whether there was one.
///
/// # Errors
///
/// See [`KvError`].
pub fn delete(key: &str) -> Result<bool, KvError> {
    Ok(host::delete(key)?)
}

fn millis(ttl: Option<Duration>) -> Option<u64> {
    ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "stored value: {text}"),
            Self::Full => write!(f, "no more values can be stored"),
            Self::Unavailable(text) => write!(f, "stored values are not available: {text}"),
        }
    }
}

impl std::error::Error for KvError {}

impl From<KvError> for PluginError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Invalid(_) => Self::internal(error),
            KvError::Full | KvError::Unavailable(_) => Self::temporary(error),
        }
    }
}

impl From<host::KvError> for KvError {
    fn from(error: host::KvError) -> Self {
        match error {
            host::KvError::Invalid(text) => Self::Invalid(text),
            host::KvError::Full => Self::Full,
            host::KvError::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_and_compared() {
        assert_eq!(get("a"), Ok(None));
        assert_eq!(compare_and_set("a", None, b"1", None), Ok(true));
        assert_eq!(compare_and_set("a", None, b"2", None), Ok(false));
        let entry = get("a").unwrap().unwrap();
        assert_eq!(entry.value, b"1");
        assert_eq!(compare_and_set("a", Some(entry.version), b"text", None), Ok(true));
        assert!(matches!(increment("a", 1, None), Err(KvError::Invalid(_))));
        assert_eq!((delete("a"), delete("a")), (Ok(true), Ok(false)));
        assert_eq!((increment("n", 2, None), increment("n", -5, None)), (Ok(2), Ok(-3)));
    }
}
