//! The arguments and variables of ff-proxy, read as Go's `flag` package does.

use std::collections::BTreeMap;

use yardarm_core::Secret;
use yardarm_core::settings::ValueSource;

use super::CompatError;
use super::table::{Form, ROWS, Row};

/// Values by variable. Those of flags come first, and variables take precedence.
#[derive(Default)]
pub(super) struct RawArgs(BTreeMap<&'static str, Vec<Value>>);

/// A value, and its source. It may be a secret.
#[derive(Clone)]
pub(super) struct Value {
    pub(super) source: ValueSource,
    pub(super) text: Secret,
}

impl RawArgs {
    /// Reads flags and variables, and checks the form of every value.
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
            // A switch alone is on; any other flag takes the next argument.
            let on = || if row.form == Form::Bool { Some("true") } else { rest.next().map(String::as_str) };
            match text.or_else(on) {
                // An empty value counts as unset, as with variables: templates leave such values behind.
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
            Form::Bool => parse_bool(text.trim()).map(|it| it.to_string()),
        };
        match text {
            Some(text) => self.0.entry(row.variable).or_default().push(Value { source, text: text.into() }),
            // The value is not repeated, because it may be a secret in the wrong place.
            None if row.form == Form::Bool => problems.push(format!("{source} must be `true` or `false`")),
            None => problems.push(format!("{source} must be a whole number from 0")),
        }
    }

    /// Returns the value that applies, which is the last.
    pub(super) fn last(&self, variable: &'static str) -> Option<&Value> {
        debug_assert!(ROWS.iter().any(|it| it.variable == variable), "`{variable}` is missing from the table");
        self.0.get(variable)?.last()
    }

    /// Returns all values.
    pub(super) fn all(&self, variable: &'static str) -> &[Value] {
        self.0.get(variable).map_or(&[], Vec::as_slice)
    }

    /// Returns whether a switch is on.
    pub(super) fn is_on(&self, variable: &'static str) -> bool {
        self.last(variable).is_some_and(|it| it.text.expose() == "true")
    }
}

/// Reads `--name=value`, `-name=value` or `--name`.
fn flag(argument: &str) -> Result<(&'static Row, Option<&str>), String> {
    // The value may be a secret and is not repeated.
    let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
    let name = name.filter(|it| !it.is_empty()).ok_or("every argument must be a flag, such as --port=7000")?;
    let (name, text) = name.split_once('=').map_or((name, None), |(name, text)| (name, Some(text)));
    let row = ROWS.iter().find(|it| it.flag == name);
    row.map(|row| (row, text)).ok_or_else(|| format!("there is no flag --{name}"))
}

/// Reads the texts that Go accepts as a boolean.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
