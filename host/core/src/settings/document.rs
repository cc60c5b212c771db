//! Writes values as the text of a configuration file, each with its source as a comment.

use std::fmt::Write;

use serde_json::Value;

use super::values::normal;
use super::{Key, Kind, ValueSource, Values};

impl Values {
    /// Returns a configuration file (TOML) with all values. Secrets from variables become references to these variables;
    /// all other secrets are in the text, as they are in their source.
    #[must_use]
    pub fn to_document(&self, keys: &[Key]) -> String {
        let mut all: Vec<_> = self
            .entries()
            .filter_map(|(path, value, source)| {
                let rank = keys.iter().position(|key| key.path == normal(path))?;
                Some((section_of(path), rank, path, value, source))
            })
            .collect();
        let first = |section: &str| {
            let section = normal(section);
            keys.iter().position(|key| key.path.strip_prefix(&section).is_some_and(|it| it.starts_with('.')))
        };
        all.sort_by_cached_key(|(section, rank, ..)| (first(section), index_of(section), *rank));
        let mut text = String::new();
        let mut current = None;
        for (section, rank, path, value, source) in all {
            if current != Some(section) {
                current = Some(section);
                let separator = if text.is_empty() { "" } else { "\n" };
                let header = match section.ends_with(']') {
                    true => format!("[[{}]]", normal(section).trim_end_matches("[]")),
                    false => format!("[{section}]"),
                };
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{separator}{header}");
            }
            let name = path.rsplit('.').next().unwrap_or(path);
            let _ = writeln!(text, "{name} = {}  # {source}", written(keys[rank].kind, value, source));
        }
        text
    }
}

/// Returns the path without its last part.
fn section_of(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |it| it.0)
}

/// Returns the index at the end of the path of a list entry; 0 for other sections.
fn index_of(section: &str) -> usize {
    section.trim_end_matches(']').rsplit_once('[').and_then(|it| it.1.parse().ok()).unwrap_or_default()
}

fn written(kind: Kind, value: &Value, source: &ValueSource) -> String {
    // The escapes of JSON are those of TOML, too.
    let quoted = |text: &str| Value::from(text).to_string();
    match (kind, value, source) {
        (Kind::Secret, Value::String(_), ValueSource::Variable(name)) => format!("{{ env = {} }}", quoted(name)),
        (Kind::Bool | Kind::Count, Value::String(text), _) => text.clone(),
        (Kind::List, Value::String(text), _) => {
            let items: Vec<_> = text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(quoted).collect();
            format!("[{}]", items.join(", "))
        }
        (_, Value::String(text), _) => quoted(text),
        (_, Value::Object(table), _) => {
            let items: Vec<_> = table.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            format!("{{ {} }}", items.join(", "))
        }
        (_, other, _) => other.to_string(),
    }
}
