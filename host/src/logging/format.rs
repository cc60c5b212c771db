//! The formats of a line: text for people, JSON for programs, and the text of Go's standard logger.

use std::fmt::Write;
use std::time::SystemTime;

use serde_json::Value;
use tracing::{Level, Metadata};

use super::fields::{FieldValue, Fields};

/// Name of the field that the macros of `tracing` put the text of an event into.
const MESSAGE: &str = "message";

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One JSON object per line.
    Json,
    /// Text without escape sequences.
    Plain,
    /// Text with the colours of a terminal.
    Coloured,
    /// Text in the form of Go's standard logger (U147).
    Go,
}

/// A line that is being composed.
pub(super) struct Line {
    format: Format,
    text: String,
    /// Names that the line has; a further field with such a name is left out.
    names: Vec<&'static str>,
    /// Offset at which the environment stands in the format of Go, in bytes.
    environment_at: usize,
}

/// Name of the field with the label of an environment.
pub(super) const ENVIRONMENT: &str = "environment";

impl Line {
    /// Begins a line with the time, the level, and the fields of the event.
    pub(super) fn new(format: Format, time: SystemTime, metadata: &Metadata<'_>, own: &Fields) -> Self {
        let level = metadata.level();
        let mut line = Self { format, text: String::new(), names: Vec::new(), environment_at: 0 };
        if format == Format::Go {
            let local = chrono::DateTime::<chrono::Local>::from(time).format("%Y/%m/%d %H:%M:%S%.6f");
            line.write(format_args!("{local} {level}:"));
            line.environment_at = line.text.len();
        }
        let time = humantime::format_rfc3339_micros(time);
        match format {
            Format::Json => {
                let target = Value::from(metadata.target());
                line.write(format_args!(r#"{{"timestamp":"{time}","level":"{level}","target":{target}"#));
                line.names.extend(["timestamp", "level", "target"]);
            }
            Format::Go => (),
            Format::Plain => line.write(format_args!("{time} {level:>5}")),
            Format::Coloured => {
                line.write(format_args!("\x1b[2m{time}\x1b[0m \x1b[{}m{level:>5}\x1b[0m", colour(*level)));
            }
        }
        if format != Format::Json
            && let Some(message) = own.get(MESSAGE)
        {
            line.text.push(' ');
            line.write_message(message);
            line.names.push(MESSAGE);
        }
        line.add(own);
        line
    }

    /// Adds the fields whose names the line does not have yet.
    pub(super) fn add(&mut self, fields: &Fields) {
        for (name, value) in fields.iter() {
            if self.names.contains(&name) {
                continue;
            }
            self.names.push(name);
            if self.format == Format::Go && name == ENVIRONMENT {
                self.insert_environment(value);
                continue;
            }
            match self.format {
                Format::Json => self.write(format_args!(r#","{name}":"#)),
                Format::Plain | Format::Go => self.write(format_args!(" {name}=")),
                Format::Coloured => self.write(format_args!(" \x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")),
            }
            self.write_value(value);
        }
    }

    /// Returns the line with its end.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str(if self.format == Format::Json { "}\n" } else { "\n" });
        self.text
    }

    /// Writes the name of an environment in front of the message, as the relay of LaunchDarkly does.
    fn insert_environment(&mut self, value: &FieldValue) {
        let label = value.to_json();
        let label = label.as_str().unwrap_or_default();
        let name = label.split_once('/').map_or(label, |it| it.1);
        self.text.insert_str(self.environment_at, &format!(" [env: {name}]"));
    }

    /// Writes the message, which is no quoted text in any format.
    fn write_message(&mut self, value: &FieldValue) {
        match value {
            FieldValue::Text(text) => self.text.extend(text.chars().flat_map(visible)),
            value => self.write_value(value),
        }
    }

    fn write_value(&mut self, value: &FieldValue) {
        match (self.format, value) {
            (Format::Json, value) => self.write(format_args!("{}", value.to_json())),
            (_, FieldValue::Text(text)) => self.write(format_args!("{text:?}")),
            (_, FieldValue::Scalar(value)) => self.write(format_args!("{value}")),
            (_, FieldValue::Formatted(text)) => self.text.extend(text.chars().flat_map(visible)),
        }
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.text.write_fmt(text);
    }
}

/// Returns the escape code of a level's colour.
fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

/// Returns a character as it is shown: control characters, which could change what a terminal shows, are escaped.
fn visible(character: char) -> impl Iterator<Item = char> {
    let is_shown = !character.is_control() || matches!(character, '\n' | '\t');
    let escaped = (!is_shown).then(|| character.escape_default());
    is_shown.then_some(character).into_iter().chain(escaped.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::log_layer::LogLayer;
    use super::*;

    /// Returns the lines that `events` logs, without their time.
    fn lines(format: Format, events: impl FnOnce()) -> Vec<String> {
        let written = Arc::new(Mutex::new(String::new()));
        let layer = LogLayer::new(format, {
            let written = Arc::clone(&written);
            move |_, line: &str| written.lock().push_str(line)
        });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), events);
        let text = written.lock();
        text.lines().map(str::to_owned).collect()
    }

    fn events() {
        let task = tracing::error_span!("task", task = "upstream stream", environment = %"launchdarkly/main");
        let _task = task.enter();
        let connection = tracing::error_span!("connection", host = "a.example", route = tracing::field::Empty);
        let _connection = connection.enter();
        connection.record("route", "server.stream.all");
        tracing::warn!(items = 3, is_new = true, error = %"broken\x1b[31m", "stream interrupted");
        tracing::error!(environment = %"harness/other", "of another environment");
    }

    #[test]
    fn lines_of_text_have_the_fields_of_their_spans() {
        let lines = lines(Format::Plain, events);
        let rest: Vec<_> = lines.iter().map(|it| it.split_once("Z ").unwrap().1).collect();
        let fields = r#"host="a.example" route="server.stream.all" task="upstream stream""#;
        assert_eq!(
            rest,
            [
                format!(
                    r" WARN stream interrupted items=3 is_new=true error=broken\u{{1b}}[31m {fields} environment=launchdarkly/main"
                ),
                format!("ERROR of another environment environment=harness/other {fields}"),
            ]
        );
    }

    #[test]
    fn u147_lines_of_go_begin_with_local_time_level_and_environment() {
        let lines = lines(Format::Go, events);
        let time = lines[0].get(..26).unwrap();
        assert!(chrono::NaiveDateTime::parse_from_str(time, "%Y/%m/%d %H:%M:%S%.6f").is_ok(), "{time}");
        let fields = r#"host="a.example" route="server.stream.all" task="upstream stream""#;
        let rest: Vec<_> = lines.iter().map(|it| &it[26..]).collect();
        assert_eq!(
            rest,
            [
                format!(r" WARN: [env: main] stream interrupted items=3 is_new=true error=broken\u{{1b}}[31m {fields}"),
                format!(" ERROR: [env: other] of another environment {fields}"),
            ]
        );
    }

    #[test]
    fn lines_of_json_have_the_fields_of_their_spans() {
        let lines = lines(Format::Json, events);
        let mut line: Value = serde_json::from_str(&lines[0]).unwrap();
        let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert!(humantime::parse_rfc3339(time.as_str().unwrap()).unwrap() > UNIX_EPOCH + Duration::from_secs(1));
        let expected = serde_json::json!({
            "level": "WARN", "message": "stream interrupted", "items": 3, "is_new": true, "error": "broken\u{1b}[31m",
            "host": "a.example", "route": "server.stream.all", "task": "upstream stream",
            "environment": "launchdarkly/main", "target": "yardarm::logging::format::tests",
        });
        assert_eq!(line, expected);
        let line: Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(line["environment"], "harness/other", "the nearest value counts");
    }
}
