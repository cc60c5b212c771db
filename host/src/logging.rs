//! The log: lines on standard error that are written by a thread of their own, and a level that can change.
//!
//! Whoever logs never waits for whoever reads: what does not fit into the queue is dropped and counted, and the log says
//! so as soon as it is read again.

mod line_writer;

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

pub use self::line_writer::{LineWriter, Output};
use crate::config::LogConfig;

/// Longest time for what was logged last to be written before the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The log of the process.
static LOG: OnceLock<Log> = OnceLock::new();
/// What is written for people on standard output, where a command has something to say while it serves.
static STANDARD_OUTPUT: OnceLock<LineWriter> = OnceLock::new();

type SetFilter = Box<dyn Fn(EnvFilter) -> anyhow::Result<()> + Send + Sync>;

struct Log {
    writer: LineWriter,
    set_filter: SetFilter,
}

fn parse(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::builder().parse(level).map_err(|error| {
        anyhow::anyhow!("`log.level` must be a level or a filter such as `yardarm_wasm=debug,info`: {error}")
    })
}

/// Sets up the log, which is not changed by `RUST_LOG`.
///
/// # Errors
/// When the filter cannot be understood, a log is set up already, or no thread can be started for it.
pub fn start(config: &LogConfig) -> anyhow::Result<()> {
    let filter = parse(&config.level)?;
    let writer = LineWriter::start(Output::StandardError, "log writer", |lines| {
        tracing::error!(lines, "log lines were dropped while nothing read the log");
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer.clone());
    let cannot = |error: &dyn std::fmt::Display| anyhow::anyhow!("the log cannot be set up: {error}");
    // Both formats are set up alike, but have no type in common.
    macro_rules! set_up {
        ($log:expr) => {{
            let log = $log.with_filter_reloading();
            let handle = log.reload_handle();
            log.try_init().map_err(|error| cannot(&error))?;
            Box::new(move |filter| Ok(handle.reload(filter)?)) as SetFilter
        }};
    }
    let set_filter = if config.is_json {
        set_up!(log.json().flatten_event(true))
    } else {
        set_up!(log.with_ansi(std::io::stderr().is_terminal()).with_target(false))
    };
    LOG.set(Log { writer, set_filter }).map_err(|_| cannot(&"there is one already"))
}

/// Changes the level while the process runs.
///
/// # Errors
/// When the filter cannot be understood; the one in force stays.
pub fn set_level(level: &str) -> anyhow::Result<()> {
    let filter = parse(level)?;
    LOG.get().map_or(Ok(()), |log| (log.set_filter)(filter))
}

/// Lines that were dropped since the start because nothing read the log, or because it could not be written.
#[must_use]
pub fn dropped_lines() -> u64 {
    LOG.get().map_or(0, |log| log.writer.dropped())
}

/// Writes a line for people to standard error, in the order of the log.
pub fn print_error(line: &str) {
    match LOG.get() {
        Some(log) => log.writer.push(format!("{line}\n").as_bytes()),
        // A line that cannot be written is lost: there is no other place for it.
        None => drop(writeln!(std::io::stderr(), "{line}")),
    }
}

/// Writes a line for people to standard output without ever waiting for its reader.
pub fn print(line: &str) {
    let writer = STANDARD_OUTPUT.get_or_init(|| {
        LineWriter::start(Output::StandardOutput, "output writer", |_| ()).unwrap_or_else(|_| LineWriter::nowhere())
    });
    writer.push(format!("{line}\n").as_bytes());
}

/// Waits until everything is written, within a limit, because the reader may be gone.
pub fn flush() {
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    for writer in LOG.get().map(|it| &it.writer).into_iter().chain(STANDARD_OUTPUT.get()) {
        // What is not written by then is lost with the process.
        let _ = writer.flush(deadline.saturating_duration_since(Instant::now()));
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = &'a LineWriter;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}
