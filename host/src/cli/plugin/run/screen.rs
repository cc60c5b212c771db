//! The picture on a terminal: state, table of calls, errors, log.

use std::collections::VecDeque;

use super::super::table::{columns, printable};
use super::event::{Calls, RunEvent};

/// Lines of a terminal of the usual height; taller pictures would scroll.
const HEIGHT: usize = 24;
/// Most failed calls, lines of the log, and lines of a build's output that are shown.
const MOST_ERRORS: usize = 3;
const MOST_LOG_LINES: usize = 5;
const MOST_BUILD_LINES: usize = 12;

/// Moves to the corner, and switches line breaks of long lines off.
const BEGIN: &str = "\x1b[?7l\x1b[H";
/// Clears the rest of a line.
const END_OF_LINE: &str = "\x1b[K";
/// Clears what is below.
const END: &str = "\x1b[J";
/// Clears all at the start and at the end.
const CLEAR: &str = "\x1b[2J";
/// Switches line breaks on again.
const RESTORE: &str = "\x1b[?7h";

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct Screen {
    started: String,
    /// The state of the build or of the files.
    build: Vec<String>,
    loaded: String,
    refused: Option<String>,
    calls: Option<Calls>,
    errors: VecDeque<String>,
    log: VecDeque<String>,
    is_drawn: bool,
    is_changed: bool,
}

impl Screen {
    /// Adds an event to the picture.
    pub(super) fn add(&mut self, event: RunEvent) {
        self.is_changed = true;
        let text = event.lines();
        match event {
            RunEvent::Started { .. } => self.started = text,
            RunEvent::Building { .. }
            | RunEvent::Built { .. }
            | RunEvent::Copied { .. }
            | RunEvent::CopyFailed { .. } => {
                self.build = vec![text];
            }
            RunEvent::BuildFailed { .. } => self.build = last(&text, MOST_BUILD_LINES),
            RunEvent::Loaded(_) => {
                self.loaded = text;
                self.refused = None;
            }
            RunEvent::Refused { .. } => self.refused = Some(text),
            RunEvent::Calls(calls) => self.calls = Some(calls),
            RunEvent::CallFailed { .. } => push(&mut self.errors, text, MOST_ERRORS),
            RunEvent::Log { .. } => push(&mut self.log, text, MOST_LOG_LINES),
            RunEvent::Ended { .. } => (),
        }
    }

    /// Returns the picture with the codes of a terminal; `None` if nothing has changed.
    pub(super) fn picture(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        let clear = if std::mem::replace(&mut self.is_drawn, true) { "" } else { CLEAR };
        let lines: Vec<String> = self.lines().iter().map(|line| format!("{line}{END_OF_LINE}")).collect();
        Some(format!("{clear}{BEGIN}{}{END}", lines.join("\n")))
    }

    /// Returns the picture as text that stays, below a cleared screen.
    pub(super) fn last_picture(&self) -> String {
        format!("{RESTORE}{CLEAR}\x1b[H{}", self.lines().join("\n"))
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.started.clone(), self.loaded.clone()];
        lines.extend(self.build.iter().cloned());
        lines.extend(self.refused.clone());
        if let Some(calls) = &self.calls {
            let header = ["HOOK", "CALLS", "P50", "P99", "OUTCOMES"].map(str::to_owned);
            let rows = [header].into_iter().chain(calls.hooks.iter().map(|hook| hook.cells()));
            lines.push(String::new());
            lines
                .extend(columns(&rows.map(|cells| (cells, Vec::new())).collect::<Vec<_>>()).lines().map(str::to_owned));
            lines.push(calls.text());
            if !calls.grants_missing.is_empty() {
                lines.push(printable(&format!("read without a grant: {}", calls.grants_missing.join(", "))));
            }
        }
        lines.push(String::new());
        lines.extend(self.errors.iter().chain(&self.log).cloned());
        lines.iter_mut().for_each(|line| *line = line.trim_end().to_owned());
        lines.truncate(HEIGHT - 1);
        lines
    }
}

/// Returns the last lines of a text.
fn last(text: &str, most: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(most)..].iter().map(|line| (*line).to_owned()).collect()
}

fn push(lines: &mut VecDeque<String>, line: String, most: usize) {
    if lines.len() >= most {
        lines.pop_front();
    }
    lines.push_back(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_shown_and_the_picture_fits() {
        let mut screen = Screen::default();
        assert_eq!(screen.picture(), None);
        for number in 0..100 {
            let message = format!("line {number}");
            screen.add(RunEvent::Log { level: "info".to_owned(), message, hook: None, guest: true });
        }
        let output = (0..100).map(|number| format!("error {number}\n")).collect();
        screen.add(RunEvent::BuildFailed { reason: "has failed".to_owned(), output });
        let picture = screen.picture().unwrap();
        assert!(picture.lines().count() < HEIGHT, "{picture}");
        for (text, is_shown) in [("line 99", true), ("line 94", false), ("error 99", true), ("error 80", false)] {
            assert_eq!(picture.contains(text), is_shown, "{text}: {picture}");
        }
        assert_eq!(screen.picture(), None, "nothing has changed");
    }
}
