//! What was said on the command line and in variables, as Go's `flag` package would read it.

use std::collections::BTreeMap;

use yardarm_core::Secret;
use yardarm_core::settings::ValueSource;

use super::CompatError;
use super::table::{Form, ROWS, Row};

/// Values by variable. Flags come before variables, which win.
#[derive(Default)]
pub(super) struct RawArgs(BTreeMap<&'static str, Vec<Value>>);

/// A value, and where it was said. It may be a secret.
#[derive(Clone)]
pub(super) struct Value {
    pub(super) source: ValueSource,
    pub(super) text: Secret,
}

impl RawArgs {
    /// Reads flags and variables; every value has the form that it must have.
    pub(super) fn read(arguments: &[String], variables: &[(String, String)]) -> Result<Self, CompatError> {
        let mut args = Self::default();
        let mut problems = Vec::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (row, text) = match flag(argument) {
                Ok(found) => found,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            // Alone, a switch is on, and anything else takes the next word.
            let on = || if row.form == Form::Bool { Some("true") } else { rest.next().map(String::as_str) };
            match text.or_else(on) {
                // As with variables: templates leave empty values behind.
                Some(text) if text.trim().is_empty() => (),
                Some(text) => args.add(row, ValueSource::Argument(format!("--{}", row.flag)), text, &mut problems),
                None => problems.push(format!("flag --{} needs a value", row.flag)),
            }
        }
        for row in ROWS {
            let variable = variables.iter().find(|(name, text)| name == row.variable && !text.trim().is_empty());
            if let Some((name, text)) = variable {
                args.add(row, ValueSource::Variable(name.clone()), text, &mut problems);
            }
        }
        if problems.is_empty() { Ok(args) } else { Err(CompatError::Usage(problems)) }
    }

    fn add(&mut self, row: &'static Row, source: ValueSource, text: &str, problems: &mut Vec<String>) {
        let text = match row.form {
            Form::Text | Form::List => Some(text.to_owned()),
            Form::Count => text.trim().parse::<u64>().ok().map(|it| it.to_string()),
            Form::Bool => truth(text.trim()).map(|it| it.to_string()),
        };
        match text {
            Some(text) => self.0.entry(row.variable).or_default().push(Value { source, text: text.into() }),
            // The value itself might be a secret in the wrong place.
            None if row.form == Form::Bool => problems.push(format!("{source} must be `true` or `false`")),
            None => problems.push(format!("{source} must be a whole number from 0")),
        }
    }

    /// The value that counts; the one that was said last.
    pub(super) fn last(&self, variable: &'static str) -> Option<&Value> {
        debug_assert!(ROWS.iter().any(|it| it.variable == variable), "`{variable}` is missing from the table");
        self.0.get(variable)?.last()
    }

    /// Everything that was said.
    pub(super) fn all(&self, variable: &'static str) -> &[Value] {
        self.0.get(variable).map_or(&[], Vec::as_slice)
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, variable: &'static str) -> bool {
        self.last(variable).is_some_and(|it| it.text.expose() == "true")
    }
}

/// `--name=value`, `-name=value`, `--name`.
fn flag(argument: &str) -> Result<(&'static Row, Option<&str>), String> {
    // What follows may be a secret and is not repeated.
    let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
    let name = name.filter(|it| !it.is_empty()).ok_or("every argument must be a flag, such as --port=7000")?;
    let (name, text) = name.split_once('=').map_or((name, None), |(name, text)| (name, Some(text)));
    let row = ROWS.iter().find(|it| it.flag == name);
    row.map(|row| (row, text)).ok_or_else(|| format!("there is no flag --{name}"))
}

/// The words that Go takes for a truth value.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
