//! Reads file and variables of ld-relay into one set of values. Variables win, and lists of both are joined (U136, U137).

use std::collections::BTreeMap;

use yardarm_core::settings::{Place, ValueSource, nearest};

use super::grammar::{self, Entry};
use super::table::{Form, Meaning, ROWS, Row, Section};
use super::values::{self, Origin, Value};

/// All values that are set.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// By row of the table and name of the section; the name is empty for plain sections.
    values: BTreeMap<(usize, String), Set>,
    /// Names of environments: those of the file in its order, then those of variables in alphabetical order.
    pub(super) environments: Vec<String>,
    /// Keys of projects with filters, in the same order.
    pub(super) filters: Vec<String>,
    /// Variables that end a start, with the reason.
    pub(super) errors: Vec<String>,
}

/// A value with its source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Set {
    pub(super) value: Value,
    pub(super) source: ValueSource,
}

/// The environment variables of the process. Empty ones are present.
pub(super) struct Variables<'a>(pub(super) &'a [(String, String)]);

impl Variables<'_> {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|it| it.0 == name).map(|it| it.1.as_str())
    }

    /// Returns what follows `prefix` in the names of variables, in alphabetical order.
    fn suffixes(&self, prefix: &str) -> Vec<String> {
        let mut all: Vec<_> = self.0.iter().filter_map(|it| it.0.strip_prefix(prefix)).collect();
        all.retain(|it| !it.is_empty());
        all.sort_unstable();
        all.into_iter().map(str::to_owned).collect()
    }
}

impl Settings {
    /// Reads a file; `path` is its name in messages.
    ///
    /// # Errors
    /// Every entry that ld-relay refuses as well, with its line; only the first one if the grammar is violated.
    pub(super) fn read_file(path: &str, bytes: &[u8]) -> Result<Self, Vec<String>> {
        let entries = grammar::parse(bytes)
            .map_err(|error| vec![format!("{path}:{}:{}: {}", error.line, error.column, error.problem)])?;
        let mut settings = Self::default();
        let mut errors = Vec::new();
        // Two passes, so that the first error is the one that ld-relay reports.
        for is_named in [false, true] {
            for entry in entries.iter().filter(|it| is_section_named(it) == is_named) {
                if let Err(problem) = settings.add_entry(path, entry) {
                    errors.push(format!("{problem} ({path}, line {})", entry.line));
                }
            }
        }
        if errors.is_empty() { Ok(settings) } else { Err(errors) }
    }

    fn add_entry(&mut self, path: &str, entry: &Entry) -> Result<(), String> {
        let unknown = || format!("unsupported or misspelled {}", location(entry));
        let section = section_of(&entry.section).filter(|it| it.has_names() || entry.subsection.is_none());
        let section = section.ok_or_else(|| {
            let known = Section::ALL.map(Section::name);
            let hint = nearest(&entry.section, known.into_iter()).filter(|it| !it.eq_ignore_ascii_case(&entry.section));
            format!("{}{}", unknown(), did_you_mean(hint))
        })?;
        let name = entry.subsection.clone().unwrap_or_default();
        if section.has_names() && name.is_empty() {
            return Err(format!("{}: a name must follow, such as [{} \"name\"]", unknown(), section.name()));
        }
        self.add_name(section, &name);
        let Some(assignment) = &entry.assignment else { return Ok(()) };
        let row = ROWS.iter().position(|it| {
            it.section == section && !it.name.is_empty() && it.name.eq_ignore_ascii_case(&assignment.name)
        });
        let Some(row) = row else {
            let known = ROWS.iter().filter(|it| it.section == section && !it.name.is_empty()).map(|it| it.name);
            return Err(format!("{}{}", unknown(), did_you_mean(nearest(&assignment.name, known))));
        };
        let value = match (&assignment.value, ROWS[row].form) {
            (None, Form::Bool) => Ok(Some(Value::Bool(true))),
            (None, _) => Err("blank value not supported for type".to_owned()),
            (Some(text), form) => values::read(form, text, Origin::File),
        };
        let value = value.map_err(|problem| format!("{problem} at {}", location(entry)))?;
        let place = Place { file: path.to_owned(), line: entry.line, column: entry.column };
        self.set(row, name, value, ValueSource::File(Some(place)));
        Ok(())
    }

    /// Adds the variables to what the file has set.
    pub(super) fn add_variables(&mut self, variables: &Variables<'_>) {
        for name in variables.suffixes("LD_ENV_") {
            self.add_name(Section::Environment, &name);
        }
        for name in variables.suffixes("LD_FILTER_KEYS_") {
            self.add_name(Section::Filters, &name);
        }
        let reads_redis = self.reads_redis(variables);
        let uses_consul = self.flag(variables, "USE_CONSUL");
        for (index, row) in ROWS.iter().enumerate() {
            let is_read = match row.section {
                Section::Redis => reads_redis,
                // Those without a name are read by Consul's client library.
                Section::Consul if row.name.is_empty() => uses_consul || self.text(Section::Consul, "host").is_some(),
                Section::Consul => uses_consul,
                // The row that enables it comes first.
                Section::DynamoDb => row.name == "enabled" || self.is_on(Section::DynamoDb, "enabled"),
                _ => true,
            };
            if !is_read || row.variable.is_empty() {
                continue;
            }
            let names = match row.section {
                Section::Environment => self.environments.clone(),
                Section::Filters => self.filters.clone(),
                _ => vec![String::new()],
            };
            for name in names {
                self.add_variable(index, row, name, variables);
            }
        }
        if uses_consul && self.get(Section::Consul, "host").is_none_or(|it| is_from_file(&it.source)) {
            self.put(Section::Consul, "host", Value::Text("localhost".to_owned()), variable_source("USE_CONSUL"));
        }
        if reads_redis {
            self.complete_redis(variables);
        }
        self.refuse_obsolete(variables, reads_redis);
    }

    fn add_variable(&mut self, index: usize, row: &Row, name: String, variables: &Variables<'_>) {
        let variable = format!("{}{name}", row.variable);
        let Some(text) = variables.get(&variable) else { return };
        if text.is_empty() && row.form == Form::Bool || is_redis_link(row, text) {
            return;
        }
        // An empty list adds nothing to that of the file.
        if text.is_empty() && row.form == Form::List {
            return;
        }
        match values::read(row.form, text, Origin::Variable) {
            Ok(value) => self.set(index, name, value, ValueSource::Variable(variable)),
            Err(problem) => self.errors.push(format!("{variable}: {problem}")),
        }
    }

    /// Returns whether variables of Redis are read: it is enabled by a variable or by the file.
    fn reads_redis(&mut self, variables: &Variables<'_>) -> bool {
        let is_in_file = ["url", "host", "port"].iter().any(|it| self.get(Section::Redis, it).is_some());
        self.flag(variables, "USE_REDIS") || is_in_file
    }

    /// Handles the two special cases of Redis: the address that Docker links set, and no address at all (U139, U140).
    fn complete_redis(&mut self, variables: &Variables<'_>) {
        let link = variables.get("REDIS_PORT").and_then(|it| it.strip_prefix("tcp://"));
        if let Some((host, port)) = link.and_then(|it| it.rsplit_once(':')) {
            let source = variable_source("REDIS_PORT");
            self.put(Section::Redis, "host", Value::Text(host.to_owned()), source.clone());
            match values::read(Form::Positive, port, Origin::Variable) {
                Ok(Some(value)) => self.put(Section::Redis, "port", value, source),
                Ok(None) => (),
                Err(problem) => self.errors.push(format!("REDIS_PORT: {problem}")),
            }
        }
        if ["url", "host", "port"].iter().all(|it| self.get(Section::Redis, it).is_none()) {
            let url = Value::Text("redis://localhost:6379".to_owned());
            self.put(Section::Redis, "url", url, variable_source("USE_REDIS"));
        }
    }

    /// Reports variables of old versions (U145).
    fn refuse_obsolete(&mut self, variables: &Variables<'_>, reads_redis: bool) {
        const OBSOLETE: &str = "this variable is no longer supported";
        let is_set = |name: &str| variables.get(name).is_some_and(|it| !it.is_empty());
        if is_set("EVENTS_SAMPLING_INTERVAL") {
            self.errors.push(format!("EVENTS_SAMPLING_INTERVAL: {OBSOLETE}"));
        }
        for name in variables.suffixes("LD_ENV_") {
            if is_set(&format!("LD_TTL_MINUTES_{name}")) {
                self.errors.push(format!("LD_TTL_MINUTES_{name}: {OBSOLETE}; use LD_TTL_{name}"));
            }
        }
        if reads_redis && is_set("REDIS_TTL") {
            self.errors.push(format!("REDIS_TTL: {OBSOLETE}; use CACHE_TTL"));
        }
    }

    /// Reads a switch that is no setting of its own.
    fn flag(&mut self, variables: &Variables<'_>, name: &str) -> bool {
        match variables.get(name).filter(|it| !it.is_empty()).map(|it| values::read(Form::Bool, it, Origin::Variable)) {
            Some(Ok(value)) => value == Some(Value::Bool(true)),
            Some(Err(problem)) => {
                self.errors.push(format!("{name}: {problem}"));
                false
            }
            None => false,
        }
    }

    fn add_name(&mut self, section: Section, name: &str) {
        let names = match section {
            Section::Environment => &mut self.environments,
            Section::Filters => &mut self.filters,
            _ => return,
        };
        if !names.iter().any(|it| it == name) {
            names.push(name.to_owned());
        }
    }

    /// Sets a value, or unsets it if it is `None`. Lists are appended.
    fn set(&mut self, row: usize, name: String, value: Option<Value>, source: ValueSource) {
        let key = (row, name);
        let Some(value) = value else {
            self.values.remove(&key);
            return;
        };
        let value = match (self.values.remove(&key).map(|it| it.value), value) {
            (Some(Value::List(mut before)), Value::List(more)) => {
                before.extend(more);
                Value::List(before)
            }
            (_, value) => value,
        };
        self.values.insert(key, Set { value, source });
    }

    fn put(&mut self, section: Section, name: &str, value: Value, source: ValueSource) {
        self.set(index_of(section, name), String::new(), Some(value), source);
    }

    /// Sets the URL of Redis.
    pub(super) fn put_url(&mut self, url: String, source: ValueSource) {
        self.put(Section::Redis, "url", Value::Text(url), source);
    }

    /// Removes, from the section whose mode is not active, the values of variables that both sections share.
    pub(super) fn choose_common(&mut self) {
        let inactive = if self.text(Section::AutoConfig, "key").is_some() {
            Section::OfflineMode
        } else if self.text(Section::OfflineMode, "fileDataSource").is_some() {
            Section::AutoConfig
        } else {
            return;
        };
        self.values.retain(|(row, _), set| {
            let is_shared = ROWS[*row].variable.starts_with("ENV_") && !is_from_file(&set.source);
            ROWS[*row].section != inactive || !is_shared
        });
    }

    /// Returns whether there is no source of environments at all.
    pub(super) fn has_no_environments(&self) -> bool {
        self.environments.is_empty()
            && self.text(Section::AutoConfig, "key").is_none()
            && self.text(Section::OfflineMode, "fileDataSource").is_none()
    }

    /// Removes a value of a plain section.
    pub(super) fn remove(&mut self, section: Section, name: &str) {
        self.values.remove(&(index_of(section, name), String::new()));
    }

    /// Returns the value of a setting of a plain section.
    pub(super) fn get(&self, section: Section, name: &str) -> Option<&Set> {
        self.get_in(section, "", name)
    }

    /// Returns the value of a setting of the section with this name.
    pub(super) fn get_in(&self, section: Section, owner: &str, name: &str) -> Option<&Set> {
        self.values.get(&(index_of(section, name), owner.to_owned()))
    }

    /// Returns a text that is not empty.
    pub(super) fn text_in(&self, section: Section, owner: &str, name: &str) -> Option<(&str, &ValueSource)> {
        match self.get_in(section, owner, name) {
            Some(Set { value: Value::Text(text), source }) if !text.is_empty() => Some((text, source)),
            _ => None,
        }
    }

    /// Returns a text of a plain section that is not empty.
    pub(super) fn text(&self, section: Section, name: &str) -> Option<(&str, &ValueSource)> {
        self.text_in(section, "", name)
    }

    /// Returns whether a switch of a plain section is on.
    pub(super) fn is_on(&self, section: Section, name: &str) -> bool {
        matches!(self.get(section, name), Some(Set { value: Value::Bool(true), .. }))
    }

    /// Returns all values with their rows and the names of their sections, in the order of the table.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static Row, &str, &Set)> {
        self.values.iter().map(|((row, name), set)| (&ROWS[*row], name.as_str(), set))
    }
}

fn index_of(section: Section, name: &str) -> usize {
    let is_it = |it: &Row| it.section == section && (it.name == name || it.name.is_empty() && it.variable == name);
    let index = ROWS.iter().position(is_it);
    debug_assert!(index.is_some(), "`{name}` is missing from the table");
    index.unwrap_or(usize::MAX)
}

fn is_section_named(entry: &Entry) -> bool {
    section_of(&entry.section).is_some_and(Section::has_names)
}

fn section_of(name: &str) -> Option<Section> {
    Section::ALL.into_iter().find(|it| it.name().eq_ignore_ascii_case(name))
}

/// Names the place of an entry as gcfg does.
fn location(entry: &Entry) -> String {
    let mut text = format!("section \"{}\"", entry.section);
    if let Some(name) = &entry.subsection {
        text.push_str(&format!(", subsection \"{name}\""));
    }
    if let Some(assignment) = &entry.assignment {
        text.push_str(&format!(", variable \"{}\"", assignment.name));
    }
    text
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |it| format!("; did you mean \"{it}\"?"))
}

/// Returns whether a value is the address of a linked container in place of a port (U139).
fn is_redis_link(row: &Row, text: &str) -> bool {
    row.variable == "REDIS_PORT" && text.starts_with("tcp://")
}

fn is_from_file(source: &ValueSource) -> bool {
    matches!(source, ValueSource::File(_))
}

fn variable_source(name: &str) -> ValueSource {
    ValueSource::Variable(name.to_owned())
}

impl Row {
    /// Name of a setting in messages, with its source: `[Main] port` or the variable.
    pub(super) fn shown(&self, set: &Set) -> String {
        match &set.source {
            ValueSource::Variable(name) => name.clone(),
            source => format!("[{}] {} ({source})", self.section.name(), self.name),
        }
    }

    /// Returns what happens in place of an effect that the user of a value may expect; `None` for a switch that is off.
    pub(super) fn missed_effect(&self, set: &Set) -> Option<&'static str> {
        match (self.meaning, &set.value) {
            (Meaning::Missed(_), Value::Bool(false)) => None,
            (Meaning::Missed(_), Value::Text(text)) if text.is_empty() => None,
            (Meaning::Missed(why), _) => Some(why),
            _ => None,
        }
    }
}
