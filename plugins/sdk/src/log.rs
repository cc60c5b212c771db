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

/// Writes one line.
pub fn write(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    {
        use crate::bindings::host::log;
        let level = match level {
            Level::Trace => log::Level::Trace,
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error => log::Level::Error,
        };
        log::log(level, message);
    }
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{level:?}: {message}");
}

/// Logs individual steps.
#[macro_export]
#[doc(hidden)]
macro_rules! __trace {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Trace, &format!($($text)+)) };
}

/// Logs details for the author of the plugin.
#[macro_export]
#[doc(hidden)]
macro_rules! __debug {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Debug, &format!($($text)+)) };
}

/// Logs information for the operator.
#[macro_export]
#[doc(hidden)]
macro_rules! __info {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Info, &format!($($text)+)) };
}

/// Logs a problem that has healed or will be retried.
#[macro_export]
#[doc(hidden)]
macro_rules! __warn {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Warn, &format!($($text)+)) };
}

/// Logs a problem that needs action by the operator.
#[macro_export]
#[doc(hidden)]
macro_rules! __error {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Error, &format!($($text)+)) };
}
