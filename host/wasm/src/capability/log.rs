//! Log lines of guests: limited in rate and length, with control characters escaped and dropped lines counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::guest::{GuestState, PluginContext};
use crate::interface::v0_1;
use crate::interface::v0_1::host::log::Level;

/// Sustained rate of lines per second; further lines are dropped and counted.
const LINES_PER_SECOND: f64 = 50.0;
/// Maximum number of lines in a burst.
const BURST: f64 = 200.0;
/// Maximum length of a line in bytes; the rest is cut off.
const LONGEST_LINE: usize = 2 * 1024;

/// Rate limit for log lines.
#[derive(Debug)]
pub(crate) struct LogGate {
    bucket: Mutex<(f64, Instant)>,
    dropped: AtomicU64,
}

impl Default for LogGate {
    fn default() -> Self {
        Self { bucket: Mutex::new((BURST, Instant::now())), dropped: AtomicU64::new(0) }
    }
}

impl LogGate {
    /// Returns whether one more line may be written; counts it if not.
    pub(crate) fn admit(&self) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (tokens, since) = *bucket;
        let tokens = (tokens + (now - since).as_secs_f64() * LINES_PER_SECOND).min(BURST);
        let passes = tokens >= 1.0;
        *bucket = (if passes { tokens - 1.0 } else { tokens }, now);
        if !passes {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        passes
    }

    /// Returns the number of dropped lines.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl v0_1::host::log::Host for GuestState {
    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        if !self.is_warm_up {
            write(&self.plugin, self.hook, level, &message);
        }
        Ok(())
    }
}

/// Writes one line of a guest to the host's log.
pub(crate) fn write(plugin: &PluginContext, hook: &'static str, level: Level, message: &str) {
    if !plugin.counters.log.admit() {
        return;
    }
    let line = clean(message);
    let (name, generation) = (&*plugin.name, plugin.generation);
    match level {
        Level::Trace => tracing::trace!(target: "yardarm::guest", plugin = name, generation, hook, "{line}"),
        Level::Debug => tracing::debug!(target: "yardarm::guest", plugin = name, generation, hook, "{line}"),
        Level::Info => tracing::info!(target: "yardarm::guest", plugin = name, generation, hook, "{line}"),
        Level::Warn => tracing::warn!(target: "yardarm::guest", plugin = name, generation, hook, "{line}"),
        Level::Error => tracing::error!(target: "yardarm::guest", plugin = name, generation, hook, "{line}"),
    }
}

/// Sanitizes a text of a guest for logs and status: no control characters, bounded length.
pub(crate) fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(LONGEST_LINE));
    for character in text.chars() {
        if line.len() >= LONGEST_LINE {
            line.push('…');
            break;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let gate = LogGate::default();
        let passed = (0..1_000).filter(|_| gate.admit()).count();
        assert!((200..260).contains(&passed), "{passed}");
        assert_eq!(passed as u64 + gate.dropped(), 1_000);
    }

    #[test]
    fn a_line_cannot_forge_another() {
        assert_eq!(clean("a\nb\x1b[31m"), "a\\nb\\u{1b}[31m");
        assert!(clean(&"é".repeat(5_000)).len() <= LONGEST_LINE + 8);
    }
}
