//! The log: lines on standard error that a dedicated thread writes, and a level that can change at run time.
//!
//! Logging never waits for the reader of the log: lines that do not fit into the queue are dropped and counted, and a
//! record with their number follows as soon as the log is read again.

mod export;
mod fields;
mod format;
mod levels;
mod line_writer;
mod log_layer;

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

#[cfg(feature = "otlp")]
pub(crate) use self::export::{Export, ExportedLine, set_export};
use self::format::Format;
use self::levels::Levels;
pub use self::line_writer::{LineWriter, Output};
use self::log_layer::LogLayer;
use yardarm_core::EnvironmentLabel;

use crate::config::{LogConfig, LogFormat};

/// Longest time that the end of the process waits for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The log of the process.
static LOG: OnceLock<Log> = OnceLock::new();
/// Writer of messages on standard output, for commands that print while they serve.
static STANDARD_OUTPUT: OnceLock<LineWriter> = OnceLock::new();

struct Log {
    writer: LineWriter,
    levels: reload::Handle<Levels, Registry>,
}

fn parse(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::builder().parse(level).map_err(|error| {
        anyhow::anyhow!("`log.level` must be a level or a filter such as `yardarm_wasm=debug,info`: {error}")
    })
}

/// Sets up the log. `RUST_LOG` has no effect on it.
///
/// # Errors
/// When the filter is malformed, a log is set up already, or its thread cannot be started.
pub fn start(config: &LogConfig) -> anyhow::Result<()> {
    let filter = parse(&config.level)?;
    let writer = LineWriter::start(Output::StandardError, "log writer", |lines| {
        tracing::error!(lines, "log lines were dropped while nothing read the log");
    })?;
    let format = match (config.format, std::io::stderr().is_terminal()) {
        (LogFormat::Json, _) => Format::Json,
        (LogFormat::Go, _) => Format::Go,
        (LogFormat::Text, false) => Format::Plain,
        (LogFormat::Text, true) => Format::Coloured,
    };
    let others = if config.split_output { standard_output().clone() } else { writer.clone() };
    let sink = {
        let errors = writer.clone();
        move |level: Level, line: &str| {
            let writer = if level == Level::ERROR { &errors } else { &others };
            writer.push(line.as_bytes());
        }
    };
    set_up(filter, format, sink, writer)
}

/// Sets up the log with lines in JSON that `sink` receives in place of standard error. It must not wait.
///
/// # Errors
/// When the filter is malformed, a log is set up already, or its thread cannot be started.
pub fn start_with(level: &str, sink: impl Fn(&str) + Send + Sync + 'static) -> anyhow::Result<()> {
    // For messages of commands, which are no lines of the log.
    let writer = LineWriter::start(Output::StandardError, "log writer", |_| ())?;
    set_up(parse(level)?, Format::Json, move |_, line: &str| sink(line), writer)
}

fn set_up(
    filter: EnvFilter,
    format: Format,
    sink: impl Fn(Level, &str) + Send + Sync + 'static,
    writer: LineWriter,
) -> anyhow::Result<()> {
    let cannot = |error: &dyn std::fmt::Display| anyhow::anyhow!("the log cannot be set up: {error}");
    let (filter, levels) = reload::Layer::new(Levels::new(filter));
    let layer = LogLayer::new(format, sink);
    tracing_subscriber::registry().with(filter).with(layer).try_init().map_err(|error| cannot(&error))?;
    LOG.set(Log { writer, levels }).map_err(|_| cannot(&"there is one already"))
}

/// Changes the level at run time.
///
/// # Errors
/// When the filter is malformed; the current one stays in effect.
pub fn set_level(level: &str) -> anyhow::Result<()> {
    let filter = parse(level)?;
    LOG.get().map_or(Ok(()), |log| Ok(log.levels.modify(|levels| levels.set_filter(filter))?))
}

/// Replaces the levels of single environments, which apply to lines of this program about them in place of the level of the
/// process.
///
/// # Errors
/// When the log has ended.
pub fn set_environment_levels(levels: &[(EnvironmentLabel, LevelFilter)]) -> anyhow::Result<()> {
    let by_label: HashMap<_, _> = levels.iter().map(|(label, level)| (label.to_string(), *level)).collect();
    LOG.get().map_or(Ok(()), |log| Ok(log.levels.modify(|levels| levels.set_environments(by_label))?))
}

/// Returns how many lines were dropped since the start because the log was not read or could not be written.
#[must_use]
pub fn dropped_lines() -> u64 {
    let writers = LOG.get().map(|log| &log.writer).into_iter().chain(STANDARD_OUTPUT.get());
    writers.map(LineWriter::dropped).sum()
}

/// Writes a plain line to standard error, in order with the log.
pub fn print_error(line: &str) {
    match LOG.get() {
        Some(log) => log.writer.push(format!("{line}\n").as_bytes()),
        // A line that cannot be written is lost, because there is no other output for it.
        None => drop(writeln!(std::io::stderr(), "{line}")),
    }
}

/// Writes a plain line to standard output and never waits for its reader.
pub fn print(line: &str) {
    standard_output().push(format!("{line}\n").as_bytes());
}

fn standard_output() -> &'static LineWriter {
    STANDARD_OUTPUT.get_or_init(|| {
        LineWriter::start(Output::StandardOutput, "output writer", |_| ()).unwrap_or_else(|_| LineWriter::nowhere())
    })
}

/// Waits until everything is written, for a limited time, because the reader may be gone.
pub fn flush() {
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    for writer in LOG.get().map(|it| &it.writer).into_iter().chain(STANDARD_OUTPUT.get()) {
        // Lines that are not written by then are lost with the process.
        let _ = writer.flush(deadline.saturating_duration_since(Instant::now()));
    }
}
