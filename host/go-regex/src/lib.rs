//! Go's regular expressions on Rust's engine: our own, because no crate translates Go's RE2 dialect to that of `regex`.
//!
//! Both vendors' rules are written in Go's dialect, because their own relays are Go programs. The two dialects are close
//! relatives. Where they differ, `translate` rewrites the pattern, or rejects it where Go would.

#![forbid(unsafe_code)]

mod literal;

mod class;
mod translate;

use std::fmt;
use std::sync::OnceLock;

use regex::Regex;

use self::translate::translate;

/// A pattern that is compiled on first use.
///
/// Compiling costs tens of microseconds and kilobytes, and many patterns of an environment are never matched.
pub struct Pattern {
    source: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// Stores `source`, which is compiled on first use.
    #[must_use]
    pub fn new(source: &str) -> Self {
        Self { source: source.into(), compiled: OnceLock::new() }
    }

    /// Returns whether the pattern matches anywhere in `text`. An invalid pattern never matches.
    #[must_use]
    pub fn is_found_in(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| Regex::new(&translate(&self.source)?).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

#[cfg(test)]
mod tests;
