//! A configuration file as values with their positions. Errors never quote the text, because it may contain keys.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use yardarm_core::settings::Place;

use super::error::ConfigError;

/// Largest configuration file that is read, in bytes: 16 MiB.
const MAX_FILE: u64 = 16 << 20;

/// A configuration file.
pub(super) struct Document {
    /// The whole document as one table.
    pub(super) value: Value,
    lines: Lines,
    /// Offsets at which values begin, in bytes, by key path.
    offsets: BTreeMap<String, usize>,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is not TOML.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).and_then(|it| it.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(unreadable(Error::new(ErrorKind::FileTooLarge, "larger than 16 MiB")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let lines = Lines::of(path, String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned());
            ConfigError::Syntax { place: lines.place(valid), problem: "not UTF-8".to_owned() }
        })?;
        Self::parse(path, text)
    }

    /// Parses the text of a file; `path` appears in errors only.
    pub(super) fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let mut offsets = BTreeMap::new();
        let value = match DeTable::parse(&text) {
            Ok(table) => table_of("", table.get_ref(), &mut offsets),
            Err(error) => {
                let problem = error.message().to_owned();
                let place = Lines::of(path, text).place(error.span().map_or(0, |it| it.start));
                return Err(ConfigError::Syntax { place, problem });
            }
        };
        Ok(Self { value, lines: Lines::of(path, text), offsets })
    }

    /// Returns the position of a key's value, if the document has the key.
    pub(super) fn place(&self, key: &str) -> Option<Place> {
        self.offsets.get(key).map(|offset| self.lines.place(*offset))
    }
}

/// Line starts of a file, so that looking up the position of an offset does not scan the file again.
struct Lines {
    path: PathBuf,
    text: String,
    /// Offsets at which lines begin, in bytes.
    starts: Vec<usize>,
}

impl Lines {
    fn of(path: &Path, text: String) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path: path.to_owned(), text, starts }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let before = self.starts.get(line - 1).and_then(|start| self.text.get(*start..offset)).unwrap_or_default();
        Place { file: self.path.display().to_string(), line, column: before.chars().count() + 1 }
    }
}

fn table_of(path: &str, table: &DeTable<'_>, offsets: &mut BTreeMap<String, usize>) -> Value {
    let mut values = Map::new();
    for (name, value) in table {
        let path = if path.is_empty() { name.get_ref().to_string() } else { format!("{path}.{}", name.get_ref()) };
        // The position of an unknown key is that of its name, not of its value.
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
    fn values_keep_their_positions() {
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
    fn values_that_are_not_strings_have_positions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("y.toml");
        std::fs::write(&path, b"# first\nk = \"\xc3\xa4canary\xe4\"\n").unwrap();
        let error = Document::read(&path).err().unwrap();
        let ConfigError::Syntax { place, problem } = &error else { panic!("{error}") };
        assert_eq!((place.line, place.column, problem.as_str()), (2, 13, "not UTF-8"));
        let error = Document::read(Path::new("/dev/zero")).err().unwrap();
        assert!(error.to_string().ends_with("cannot be read: larger than 16 MiB"), "{error}");
    }

    #[test]
    fn syntax_errors_have_a_position_and_quote_nothing() {
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
