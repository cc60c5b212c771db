//! The text of a configuration file as values, each with its place. Errors never repeat the text: it may hold keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use yardarm_core::settings::Place;

use super::ConfigError;

/// A configuration file.
pub(super) struct Document {
    /// All of it, as one table.
    pub(super) value: Value,
    text: String,
    path: PathBuf,
    /// Where the values of paths begin, in bytes.
    offsets: BTreeMap<String, usize>,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is not TOML.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        Self::parse(path, std::fs::read_to_string(path).map_err(unreadable)?)
    }

    /// The same with the text of the file.
    pub(super) fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let mut offsets = BTreeMap::new();
        let value = match DeTable::parse(&text) {
            Ok(table) => table_of("", table.get_ref(), &mut offsets),
            Err(error) => {
                let place = place(path, &text, error.span().map_or(0, |it| it.start));
                return Err(ConfigError::Syntax { place, problem: error.message().to_owned() });
            }
        };
        Ok(Self { value, text, path: path.to_owned(), offsets })
    }

    /// Where the value of a key stands, if it stands here.
    pub(super) fn place(&self, key: &str) -> Option<Place> {
        self.offsets.get(key).map(|offset| place(&self.path, &self.text, *offset))
    }
}

fn place(path: &Path, text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |it| it + 1);
    Place {
        file: path.display().to_string(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

fn table_of(path: &str, table: &DeTable<'_>, offsets: &mut BTreeMap<String, usize>) -> Value {
    let mut values = Map::new();
    for (name, value) in table {
        let path = if path.is_empty() { name.get_ref().to_string() } else { format!("{path}.{}", name.get_ref()) };
        // A key that does not exist is best found by its name.
        offsets.insert(path.clone(), name.span().start);
        values.insert(name.get_ref().to_string(), value_of(&path, value, offsets));
    }
    Value::Object(values)
}

fn value_of(path: &str, value: &Spanned<DeValue<'_>>, offsets: &mut BTreeMap<String, usize>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(it) => Value::Bool(*it),
        DeValue::Integer(it) => match i64::from_str_radix(it.as_str(), it.radix()) {
            Ok(number) => Value::Number(number.into()),
            Err(_) => Value::String(it.as_str().to_owned()),
        },
        DeValue::Float(it) => {
            let number = it.as_str().parse().ok().and_then(Number::from_f64);
            number.map_or_else(|| Value::String(it.as_str().to_owned()), Value::Number)
        }
        DeValue::Datetime(it) => Value::String(it.to_string()),
        DeValue::Table(table) => table_of(path, table, offsets),
        DeValue::Array(list) => {
            let each = |(index, it): (usize, &Spanned<DeValue<'_>>)| {
                let path = format!("{path}[{index}]");
                offsets.insert(path.clone(), it.span().start);
                value_of(&path, it, offsets)
            };
            Value::Array(list.iter().enumerate().map(each).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Document, ConfigError> {
        Document::parse(Path::new("y.toml"), text.to_owned())
    }

    #[test]
    fn values_keep_their_places() {
        let text = "a = 1\n[b]\n  \"ä\" = 0x10\n[[c.d]]\ne = [\"x\"]\nf.g = 1.5\n[[c.d]]\ne = true";
        let document = parse(text).unwrap();
        let expected = serde_json::json!({
            "a": 1, "b": {"ä": 16}, "c": {"d": [{"e": ["x"], "f": {"g": 1.5}}, {"e": true}]},
        });
        assert_eq!(document.value, expected);
        for (key, line, column) in
            [("a", 1, 1), ("b.ä", 3, 3), ("c.d[0].e", 5, 1), ("c.d[0].f.g", 6, 3), ("c.d[1].e", 8, 1)]
        {
            let place = document.place(key).unwrap();
            assert_eq!((place.line, place.column), (line, column), "{key}");
        }
        assert_eq!(document.place("nowhere"), None);
    }

    #[test]
    fn syntax_errors_have_a_place_and_repeat_nothing() {
        for (text, line, column) in [
            ("[server]\nlisten = canary", 2, 10),
            ("[server]\nlisten = \"canary", 2, 17),
            ("a = 1\ncanary canary", 2, 8),
            ("canary = 1\ncanary = 2", 2, 1),
            ("canary = 1\n[canary.b]", 2, 2),
            ("k = \"canary\\q\"", 1, 13),
            ("[canary", 1, 8),
        ] {
            let error = parse(text).err().unwrap();
            let ConfigError::Syntax { place, .. } = &error else { panic!("{error}") };
            assert_eq!((place.line, place.column), (line, column), "{text}: {error}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }
}
