//! Log lines. Granted to every plugin; the host bounds their rate and length and escapes control characters.
//!
//! ```
//! use yardarm_plugin::log;
//!
//! let dropped = 3;
//! log::info!("{dropped} events dropped");
//! ```

pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For the author of the plugin.
    Debug,
    /// For the operator, of interest.
    Info,
    /// For the operator, healed or will be tried again.
    Warn,
    /// For the operator, to act upon.
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

/// Logs for the author of the plugin, every step.
#[macro_export]
#[doc(hidden)]
macro_rules! __trace {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Trace, &format!($($text)+)) };
}

/// Logs for the author of the plugin.
#[macro_export]
#[doc(hidden)]
macro_rules! __debug {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Debug, &format!($($text)+)) };
}

/// Logs what an operator may want to know.
#[macro_export]
#[doc(hidden)]
macro_rules! __info {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Info, &format!($($text)+)) };
}

/// Logs what healed or will be tried again.
#[macro_export]
#[doc(hidden)]
macro_rules! __warn {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Warn, &format!($($text)+)) };
}

/// Logs what an operator must act upon.
#[macro_export]
#[doc(hidden)]
macro_rules! __error {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Error, &format!($($text)+)) };
}
