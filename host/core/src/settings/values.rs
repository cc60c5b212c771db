//! Raw values by key path, later sources over earlier ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::{Key, Kind, SettingError, variable};
use crate::secret::Secret;

/// Raw values with their sources.
#[derive(Debug, Clone, Default)]
pub struct Values {
    entries: BTreeMap<String, Entry>,
    /// Variables that look like ours and are not; warnings, because container platforms inject such names.
    stray_variables: Vec<String>,
}

#[derive(Clone)]
struct Entry {
    value: Value,
    source: Source,
}

/// Where a value came from. Later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File,
    /// This environment variable.
    Variable(String),
    /// This command-line argument.
    Argument(String),
}

/// A value that the settings of another program stand for. It wins over defaults and the file, and over nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    /// Path of the key.
    pub key: String,
    /// Where the other program would have found it, which is what errors and lists name.
    pub source: Source,
    /// The value as a variable would hold it. It may be a secret, so it is never shown.
    pub text: Secret,
}

/// One value as it is in force, for people. Secrets are `***`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Path of the key.
    pub key: String,
    /// The value.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

impl Values {
    /// Adds the content of a configuration file.
    ///
    /// # Errors
    /// One for each key that does not exist.
    pub fn add_file(&mut self, document: &Value, keys: &[Key]) -> Result<(), Vec<SettingError>> {
        let mut errors = Vec::new();
        self.flatten("", document, keys, &mut errors);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Adds what the settings of another program stand for.
    pub fn add_presets(&mut self, presets: impl IntoIterator<Item = Preset>) {
        for Preset { key, source, text } in presets {
            self.entries.insert(key, Entry { value: Value::String(text.expose().to_owned()), source });
        }
    }

    /// Adds environment variables.
    pub fn add_variables(&mut self, variables: impl IntoIterator<Item = (String, String)>, keys: &[Key]) {
        for (name, text) in variables {
            if !name.starts_with("YARDARM_") {
                continue;
            }
            match keys.iter().find_map(|key| path_of_variable(key, &name)) {
                Some(path) => {
                    let entry = Entry { value: Value::String(text), source: Source::Variable(name) };
                    self.entries.insert(path, entry);
                }
                None => self.stray_variables.push(name),
            }
        }
    }

    /// Adds a command-line argument.
    pub fn add_argument(&mut self, path: &str, argument: &str, text: String) {
        let entry = Entry { value: Value::String(text), source: Source::Argument(argument.to_owned()) };
        self.entries.insert(path.to_owned(), entry);
    }

    /// Variables that start with our prefix and name no key, each with the nearest one that does.
    #[must_use]
    pub fn stray_variables(&self, keys: &[Key]) -> Vec<(String, Option<String>)> {
        let names: Vec<String> = keys.iter().map(Key::variable).collect();
        let nearest = |name: &String| nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
        self.stray_variables.iter().map(|name| (name.clone(), nearest(name))).collect()
    }

    /// Every value in force, in order of key, defaults included.
    #[must_use]
    pub fn effective(&self, keys: &[Key]) -> Vec<Effective> {
        let mut all = Vec::new();
        for key in keys {
            let set: Vec<_> = self.entries.iter().filter(|(path, _)| normal(path) == key.path).collect();
            if set.is_empty() && !key.path.contains("[]") {
                let value = if key.default.is_empty() { "(none)" } else { key.default };
                all.push(Effective { key: key.path.to_owned(), value: value.to_owned(), source: Source::Default });
            }
            for (path, entry) in set {
                let value = match (key.kind, &entry.value) {
                    // Where a secret comes from is not secret and is what one looks for.
                    (Kind::Secret, Value::Object(reference)) => Value::Object(reference.clone()).to_string(),
                    (Kind::Secret, _) => "***".to_owned(),
                    (_, Value::String(text)) => text.clone(),
                    (_, other) => other.to_string(),
                };
                all.push(Effective { key: path.clone(), value, source: entry.source.clone() });
            }
        }
        all
    }

    /// Paths of the keys whose values differ from those of `before`, in order.
    #[must_use]
    pub fn changed_keys(&self, before: &Self, keys: &[Key]) -> Vec<String> {
        let paths: BTreeSet<_> = self.entries.keys().chain(before.entries.keys()).collect();
        let value_of = |values: &Self, path: &str| match values.entries.get(path).map(|it| &it.value) {
            // A variable or an argument holds the text of what the file holds in a type of its own.
            Some(Value::String(text)) => Some(text.clone()),
            Some(value) => Some(value.to_string()),
            None => {
                let default = keys.iter().find(|key| key.path == normal(path)).map(|key| key.default);
                default.filter(|it| !it.is_empty()).map(str::to_owned)
            }
        };
        paths.into_iter().filter(|path| value_of(self, path) != value_of(before, path)).cloned().collect()
    }

    /// How many entries a list of tables has.
    pub(super) fn len_of(&self, list: &str) -> usize {
        let prefix = format!("{list}[");
        let index = |path: &String| path.strip_prefix(&prefix)?.split(']').next()?.parse::<usize>().ok();
        self.entries.keys().filter_map(index).max().map_or(0, |last| last + 1)
    }

    pub(super) fn get(&self, path: &str) -> Option<(&Value, &Source)> {
        self.entries.get(path).map(|entry| (&entry.value, &entry.source))
    }

    /// Whether the key `section`, or any key below it, was set by anybody.
    #[must_use]
    pub fn has_section(&self, section: &str) -> bool {
        let is_it = |rest: &str| rest.is_empty() || rest.starts_with('.') || rest.starts_with('[');
        self.entries.keys().any(|path| path.strip_prefix(section).is_some_and(is_it))
    }

    fn flatten(&mut self, path: &str, value: &Value, keys: &[Key], errors: &mut Vec<SettingError>) {
        let known = keys.iter().find(|key| key.path == normal(path));
        match value {
            Value::Object(table) if known.is_none() => {
                for (name, value) in table {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.flatten(&path, value, keys, errors);
                }
            }
            Value::Array(list) if known.is_none() && list.iter().all(Value::is_object) => {
                for (index, value) in list.iter().enumerate() {
                    self.flatten(&format!("{path}[{index}]"), value, keys, errors);
                }
            }
            value if known.is_some() => {
                self.entries.insert(path.to_owned(), Entry { value: value.clone(), source: Source::File });
            }
            _ => errors.push(unknown(path, keys)),
        }
    }
}

fn unknown(path: &str, keys: &[Key]) -> SettingError {
    let problem = match nearest(&normal(path), keys.iter().map(|key| key.path)) {
        Some(nearest) => format!("there is no such key; did you mean `{nearest}`?"),
        None => "there is no such key".to_owned(),
    };
    SettingError { key: path.to_owned(), from: " in the configuration file".to_owned(), problem }
}

/// The most similar known name, if any is similar enough to be a likely slip.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// `a[3].b` becomes `a[].b`.
fn normal(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    let mut is_inside = false;
    for character in path.chars() {
        match character {
            '[' => is_inside = true,
            ']' => is_inside = false,
            _ if is_inside => continue,
            _ => (),
        }
        normal.push(character);
    }
    normal
}

/// The path that a variable sets, if it sets this key.
fn path_of_variable(key: &Key, name: &str) -> Option<String> {
    let Some((list, field)) = key.path.split_once("[]") else {
        return (key.variable() == name).then(|| key.path.to_owned());
    };
    let rest = name.strip_prefix(&variable(list))?.strip_prefix('_')?;
    let (index, rest) = rest.split_once('_')?;
    let index: u16 = index.parse().ok()?;
    let expected = field.trim_start_matches('.').replace('.', "_").to_ascii_uppercase();
    // A bound, so that a typing error cannot make a list of thousands.
    (rest == expected && index < 1000).then(|| format!("{list}[{index}]{field}"))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Argument(name) => write!(f, "argument {name}"),
        }
    }
}

/// Values may be secrets, so only the source is shown.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("source", &self.source).finish_non_exhaustive()
    }
}
