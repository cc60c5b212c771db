//! Where events go: JSON lines, lines of text, or a table on a terminal.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use yardarm_core::time::unix_ms;

use super::super::outcome::Format;
use super::event::RunEvent;
use super::screen::Screen;
use crate::logging;

/// Most lines of the log that wait to be shown; more are dropped.
const MOST_WAITING: usize = 256;
/// Time between two lines about the calls of a hook, outside of a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The output of the command.
pub(super) struct Output {
    form: Form,
    log: tokio::sync::Mutex<mpsc::Receiver<String>>,
}

enum Form {
    Json,
    Lines(Mutex<Throttle>),
    Screen(Box<Mutex<Screen>>),
}

/// Leaves out counters that follow others too soon.
#[derive(Default)]
struct Throttle {
    last: Option<Instant>,
    /// How many calls of each hook were shown, and of which generation.
    shown: BTreeMap<&'static str, (u64, u64)>,
}

/// An event with its time.
#[derive(Serialize)]
struct Timed<'a> {
    at_ms: u64,
    #[serde(flatten)]
    event: &'a RunEvent,
}

impl Output {
    /// Creates the output, and the sink for lines of the log.
    pub(super) fn new(format: Format) -> (Self, impl Fn(&str) + Send + Sync + 'static) {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        let form = match format {
            Format::Json => Form::Json,
            Format::Text if std::io::stdout().is_terminal() => Form::Screen(Box::default()),
            Format::Text => Form::Lines(Mutex::default()),
        };
        // Logging never waits, so lines are dropped if there are too many.
        let sink = move |line: &str| drop(sender.try_send(line.to_owned()));
        (Self { form, log: tokio::sync::Mutex::new(receiver) }, sink)
    }

    /// Shows an event. On a terminal, it is part of the next picture.
    pub(super) fn emit(&self, event: RunEvent) {
        match &self.form {
            Form::Json => match serde_json::to_string(&Timed { at_ms: unix_ms(), event: &event }) {
                Ok(line) => logging::print(&line),
                Err(error) => logging::print_error(&format!("error: an event cannot be written as JSON: {error}")),
            },
            Form::Lines(throttle) => {
                let text = match &event {
                    RunEvent::Calls(_) => throttle.lock().lines(&event),
                    _ => event.lines(),
                };
                text.lines().for_each(logging::print);
            }
            Form::Screen(screen) => screen.lock().add(event),
        }
    }

    /// Redraws a terminal.
    pub(super) fn draw(&self) {
        if let Form::Screen(screen) = &self.form
            && let Some(picture) = screen.lock().picture()
        {
            logging::print(&picture);
        }
    }

    /// Shows lines of the log, forever.
    pub(super) async fn show_log(&self) {
        let mut log = self.log.lock().await;
        while let Some(line) = log.recv().await {
            self.show_log_line(&line);
        }
        // There is always a sender: the log of the process.
        std::future::pending::<()>().await;
    }

    /// Shows what remains of the log, and leaves a terminal as it was.
    pub(super) fn finish(&self, end: RunEvent) {
        if let Ok(mut log) = self.log.try_lock() {
            while let Ok(line) = log.try_recv() {
                self.show_log_line(&line);
            }
        }
        if let Form::Screen(screen) = &self.form {
            logging::print(&screen.lock().last_picture());
            logging::print(end.lines().trim_end());
            return;
        }
        self.emit(end);
    }

    fn show_log_line(&self, line: &str) {
        if let Some(event) = RunEvent::of_log(line) {
            self.emit(event);
        }
    }
}

impl Throttle {
    /// Returns lines for hooks whose counters have changed since they were last shown, unless that was a moment ago.
    fn lines(&mut self, event: &RunEvent) -> String {
        let RunEvent::Calls(calls) = event else { return String::new() };
        if self.last.is_some_and(|last| last.elapsed() < LINE_INTERVAL) {
            return String::new();
        }
        self.last = Some(Instant::now());
        let mut new = calls.clone();
        new.hooks.retain(|hook| self.shown.get(hook.hook) != Some(&(calls.generation, hook.calls)));
        self.shown = calls.hooks.iter().map(|hook| (hook.hook, (calls.generation, hook.calls))).collect();
        RunEvent::Calls(new).lines()
    }
}
