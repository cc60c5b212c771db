//! Raw values by key path; later sources override earlier ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::shown::without_credentials;
use super::{Key, Kind, SettingError, is_empty, variable};
use crate::secret::Secret;

/// Raw values with their sources.
#[derive(Debug, Clone, Default)]
pub struct Values {
    entries: BTreeMap<String, Entry>,
    /// Variables that have our prefix but name no key; reported as warnings, because container platforms inject such
    /// names.
    unknown_variables: Vec<String>,
    /// Keys and variables that were left empty, as named in messages.
    empty: Vec<String>,
}

#[derive(Clone)]
struct Entry {
    value: Value,
    source: ValueSource,
}

/// The source of a value. Later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueSource {
    /// The default.
    Default,
    /// The configuration file, with the position if it is known.
    File(Option<Place>),
    /// This environment variable.
    Variable(String),
    /// This command-line argument.
    Argument(String),
}

/// A position in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as named by the user.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// A value derived from the settings of another program. It overrides defaults and the file, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompatOverride {
    /// Path of the key.
    pub key: String,
    /// The source in the other program's terms, which errors and lists name.
    pub source: ValueSource,
    /// The value as an environment variable would contain it. It may be a secret, so it is never shown.
    pub text: Secret,
}

/// One effective value, for display. Secrets are `***`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Path of the key.
    pub key: String,
    /// The value.
    pub value: String,
    /// The source of the value.
    pub source: ValueSource,
}

impl Values {
    /// Adds the content of a configuration file.
    ///
    /// # Errors
    /// One for each key that does not exist.
    pub fn add_file(&mut self, document: &Value, keys: &[Key]) -> Result<(), Vec<SettingError>> {
        self.add_document(document, &|_| None, keys)
    }

    /// Adds the content of a configuration file; `place` returns the position of the value of a path.
    ///
    /// # Errors
    /// One for each key that does not exist.
    pub fn add_document(
        &mut self,
        document: &Value,
        place: &dyn Fn(&str) -> Option<Place>,
        keys: &[Key],
    ) -> Result<(), Vec<SettingError>> {
        let mut errors = Vec::new();
        self.flatten("", document, &File { place, keys }, &mut errors);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Adds values derived from the settings of another program.
    pub fn add_overrides(&mut self, overrides: impl IntoIterator<Item = CompatOverride>) {
        for CompatOverride { key, source, text } in overrides {
            self.entries.insert(key, Entry { value: Value::String(text.expose().to_owned()), source });
        }
    }

    /// Adds environment variables.
    pub fn add_variables(&mut self, variables: impl IntoIterator<Item = (String, String)>, keys: &[Key]) {
        for (name, text) in variables {
            if !name.starts_with("YARDARM_") {
                continue;
            }
            match keys.iter().find_map(|key| Some((key, path_of_variable(key, &name)?))) {
                Some((key, _)) if key.is_unset(&Value::String(text.clone())) => self.empty.push(name),
                Some((_, path)) => {
                    let entry = Entry { value: Value::String(text), source: ValueSource::Variable(name) };
                    self.entries.insert(path, entry);
                }
                None => self.unknown_variables.push(name),
            }
        }
    }

    /// Adds a command-line argument. An empty one counts as not set.
    pub fn add_argument(&mut self, path: &str, argument: &str, text: String) {
        if text.trim().is_empty() {
            return;
        }
        let entry = Entry { value: Value::String(text), source: ValueSource::Argument(argument.to_owned()) };
        self.entries.insert(path.to_owned(), entry);
    }

    /// Returns the variables that have our prefix but name no key, each with the most similar key's variable.
    #[must_use]
    pub fn unknown_variables(&self, keys: &[Key]) -> Vec<(String, Option<String>)> {
        let names: Vec<String> = keys.iter().map(Key::variable).collect();
        let nearest = |name: &String| nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
        self.unknown_variables.iter().map(|name| (name.clone(), nearest(name))).collect()
    }

    /// Returns the keys and variables that were left empty and so count as not set, as named in messages.
    #[must_use]
    pub fn empty(&self) -> &[String] {
        &self.empty
    }

    /// Returns every effective value, sorted by key, defaults included.
    #[must_use]
    pub fn effective(&self, keys: &[Key]) -> Vec<Effective> {
        let mut all = Vec::new();
        for key in keys {
            let set: Vec<_> = self.entries.iter().filter(|(path, _)| normal(path) == key.path).collect();
            if set.is_empty() && !key.path.contains("[]") {
                let value = if key.default.is_empty() { "(none)" } else { key.default };
                all.push(Effective { key: key.path.to_owned(), value: value.to_owned(), source: ValueSource::Default });
            }
            for (path, entry) in set {
                let value = match (key.kind, &entry.value) {
                    // The source of a secret is not secret, and is useful to operators.
                    (Kind::Secret, Value::Object(reference)) => Value::Object(reference.clone()).to_string(),
                    (Kind::Secret, _) => "***".to_owned(),
                    (Kind::OptionalPath, it) if is_empty(it) => "(none)".to_owned(),
                    (Kind::Url, Value::String(text)) => without_credentials(text),
                    (_, Value::String(text)) => text.clone(),
                    (_, other) => other.to_string(),
                };
                all.push(Effective { key: path.clone(), value, source: entry.source.clone() });
            }
        }
        all
    }

    /// Returns the paths of the keys whose values differ from those of `before`, sorted.
    #[must_use]
    pub fn changed_keys(&self, before: &Self, keys: &[Key]) -> Vec<String> {
        let paths: BTreeSet<_> = self.entries.keys().chain(before.entries.keys()).collect();
        let value_of = |values: &Self, path: &str| match values.entries.get(path).map(|it| &it.value) {
            // A variable or an argument contains text where the file contains a typed value.
            Some(Value::String(text)) => Some(text.clone()),
            Some(value) => Some(value.to_string()),
            None => {
                let default = keys.iter().find(|key| key.path == normal(path)).map(|key| key.default);
                default.filter(|it| !it.is_empty()).map(str::to_owned)
            }
        };
        paths.into_iter().filter(|path| value_of(self, path) != value_of(before, path)).cloned().collect()
    }

    /// Returns the indices of the entries of a list of tables that have values, sorted.
    pub(super) fn indices_of(&self, list: &str) -> BTreeSet<usize> {
        let prefix = format!("{list}[");
        let index = |path: &String| path.strip_prefix(&prefix)?.split(']').next()?.parse::<usize>().ok();
        self.entries.keys().filter_map(index).collect()
    }

    pub(super) fn get(&self, path: &str) -> Option<(&Value, &ValueSource)> {
        self.entries.get(path).map(|entry| (&entry.value, &entry.source))
    }

    /// Returns all values with their paths and sources.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Value, &ValueSource)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), &entry.value, &entry.source))
    }

    fn flatten(&mut self, path: &str, value: &Value, file: &File<'_>, errors: &mut Vec<SettingError>) {
        let known = file.keys.iter().find(|key| key.path == normal(path));
        match (known, value) {
            (None, Value::Object(table)) => {
                for (name, value) in table {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.flatten(&path, value, file, errors);
                }
            }
            (None, Value::Array(list)) if list.iter().all(Value::is_object) => {
                for (index, value) in list.iter().enumerate() {
                    self.flatten(&format!("{path}[{index}]"), value, file, errors);
                }
            }
            (Some(key), value) if key.is_unset(value) => self.empty.push(path.to_owned()),
            (Some(_), value) => {
                let source = ValueSource::File((file.place)(path));
                self.entries.insert(path.to_owned(), Entry { value: value.clone(), source });
            }
            (None, value) if is_empty(value) && file.has_keys_below(path) => self.empty.push(path.to_owned()),
            (None, _) => errors.push(file.unknown(path)),
        }
    }
}

/// A configuration file and the positions in it.
struct File<'a> {
    place: &'a dyn Fn(&str) -> Option<Place>,
    keys: &'a [Key],
}

impl File<'_> {
    fn has_keys_below(&self, path: &str) -> bool {
        let normal = normal(path);
        let is_below = |rest: &str| rest.starts_with('.') || rest.starts_with('[');
        self.keys.iter().any(|key| key.path.strip_prefix(normal.as_str()).is_some_and(is_below))
    }

    fn unknown(&self, path: &str) -> SettingError {
        let problem = match nearest(&normal(path), self.keys.iter().map(|key| key.path)) {
            _ if self.has_keys_below(path) => "is a section, so it must be a table of keys".to_owned(),
            Some(nearest) => format!("there is no such key; did you mean `{nearest}`?"),
            None => "there is no such key".to_owned(),
        };
        let place = (self.place)(path);
        let from = format!(" ({})", ValueSource::File(place.clone()));
        SettingError { key: path.to_owned(), from, place, problem }
    }
}

/// Returns the most similar known name, if it is similar enough to be a likely typing error.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// Replaces indices: `a[3].b` becomes `a[].b`.
pub(super) fn normal(path: &str) -> String {
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

/// Returns the path that a variable sets, if it sets this key.
fn path_of_variable(key: &Key, name: &str) -> Option<String> {
    let Some((list, field)) = key.path.split_once("[]") else {
        return (key.variable() == name).then(|| key.path.to_owned());
    };
    let rest = name.strip_prefix(&variable(list))?.strip_prefix('_')?;
    let (index, rest) = rest.split_once('_')?;
    let index: u16 = index.parse().ok()?;
    let expected = field.trim_start_matches('.').replace('.', "_").to_ascii_uppercase();
    // The bound prevents a typing error from creating a list of thousands.
    (rest == expected && index < 1000).then(|| format!("{list}[{index}]{field}"))
}

impl fmt::Display for ValueSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(Some(place)) => place.fmt(f),
            Self::File(None) => f.write_str("file"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Argument(name) => write!(f, "argument {name}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}, column {}", self.file, self.line, self.column)
    }
}

/// Values may be secrets, so only the source is shown.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("source", &self.source).finish_non_exhaustive()
    }
}
