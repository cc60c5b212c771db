//! Log lines. Granted to every plugin; the host bounds their rate and length and escapes control characters.
//!
//! ```
//! use yardarm_plugin::log;
//!
//! let dropped = 3;
//! log::info!("{dropped} events dropped");
//! ```

pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};

/// The severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Individual steps.
    Trace,
    /// Details for the author of the plugin.
    Debug,
    /// Information for the operator.
    Info,
    /// Problems that have healed or will be retried.
    Warn,
    /// Problems that need action by the operator.
    Error,
}

/// Returns whether lines of this level are written, so that a plugin need not build others.
#[must_use]
pub fn is_enabled(level: Level) -> bool {
    #[cfg(target_family = "wasm")]
    return crate::bindings::host::log::enabled(level.into());
    #[cfg(not(target_family = "wasm"))]
    return level >= Level::Info;
}

/// Writes one line.
pub fn write(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::host::log::log(level.into(), message);
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{level:?}: {message}");
}

#[cfg(target_family = "wasm")]
impl From<Level> for crate::bindings::host::log::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

/// Writes a line of this level, which is built only if it is written.
#[macro_export]
#[doc(hidden)]
macro_rules! __log {
    ($level:ident, $($text:tt)+) => {
        if $crate::log::is_enabled($crate::log::Level::$level) {
            $crate::log::write($crate::log::Level::$level, &format!($($text)+));
        }
    };
}

/// Logs individual steps.
#[macro_export]
#[doc(hidden)]
macro_rules! __trace {
    ($($text:tt)+) => { $crate::__log!(Trace, $($text)+) };
}

/// Logs details for the author of the plugin.
#[macro_export]
#[doc(hidden)]
macro_rules! __debug {
    ($($text:tt)+) => { $crate::__log!(Debug, $($text)+) };
}

/// Logs information for the operator.
#[macro_export]
#[doc(hidden)]
macro_rules! __info {
    ($($text:tt)+) => { $crate::__log!(Info, $($text)+) };
}

/// Logs a problem that has healed or will be retried.
#[macro_export]
#[doc(hidden)]
macro_rules! __warn {
    ($($text:tt)+) => { $crate::__log!(Warn, $($text)+) };
}

/// Logs a problem that needs action by the operator.
#[macro_export]
#[doc(hidden)]
macro_rules! __error {
    ($($text:tt)+) => { $crate::__log!(Error, $($text)+) };
}
