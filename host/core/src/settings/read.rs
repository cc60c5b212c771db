//! Raw values to typed ones, with every error at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{Key, SettingError, Values};
use crate::secret::Secret;

/// Reads typed values and collects errors. After an error it goes on with the default, so that all are found.
pub struct Reader<'a> {
    values: &'a Values,
    keys: &'a [Key],
    prefix: String,
    errors: Vec<SettingError>,
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

/// Largest secret file that is read.
const MAX_SECRET_BYTES: u64 = 64 << 10;

impl<'a> Reader<'a> {
    /// Reads from `values`; `lookup` answers for `{ env = "NAME" }`.
    #[must_use]
    pub fn new(values: &'a Values, keys: &'a [Key], lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { values, keys, prefix: String::new(), errors: Vec::new(), lookup }
    }

    /// All errors so far.
    #[must_use]
    pub fn into_errors(self) -> Vec<SettingError> {
        self.errors
    }

    /// Whether any key below `section` is set.
    #[must_use]
    pub fn has_section(&self, section: &str) -> bool {
        self.values.has_section(section)
    }

    /// Reads each entry of a list of tables; inside, paths are relative to the entry.
    pub fn each<T>(&mut self, list: &str, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.values.len_of(list))
            .map(|index| {
                let outer = std::mem::replace(&mut self.prefix, format!("{list}[{index}]."));
                let item = read(self);
                self.prefix = outer;
                item
            })
            .collect()
    }

    /// Adds an error about a key.
    pub fn reject(&mut self, path: &str, problem: impl Into<String>) {
        let key = format!("{}{path}", self.prefix);
        let from = self.values.get(&key).map_or_else(String::new, |(_, source)| format!(" ({source})"));
        self.errors.push(SettingError { key, from, problem: problem.into() });
    }

    /// A text; the default may be empty.
    pub fn text(&mut self, path: &str) -> String {
        self.parse(path, "a text", |text| Ok(text.to_owned())).unwrap_or_default()
    }

    /// A text that nobody needs to set.
    pub fn optional_text(&mut self, path: &str) -> Option<String> {
        self.parse(path, "a text", |text| Ok(text.to_owned())).filter(|text| !text.is_empty())
    }

    /// A text that must be set.
    pub fn required_text(&mut self, path: &str) -> String {
        self.optional_text(path).unwrap_or_else(|| {
            self.reject(path, "is required");
            String::new()
        })
    }

    /// `true` or `false`.
    pub fn flag(&mut self, path: &str) -> bool {
        self.parse(path, "`true` or `false`", |text| match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(()),
        })
        .unwrap_or_default()
    }

    /// A whole number within `range`.
    pub fn count(&mut self, path: &str, range: std::ops::RangeInclusive<u64>) -> u64 {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.parse(path, &expected, |text| text.parse().ok().filter(|it| range.contains(it)).ok_or(()))
            .unwrap_or(*range.start())
    }

    /// A time within `range`.
    pub fn duration(&mut self, path: &str, range: std::ops::RangeInclusive<Duration>) -> Duration {
        self.optional_duration(path, range.clone()).unwrap_or(*range.start())
    }

    /// A time within `range`, if there is one.
    pub fn optional_duration(&mut self, path: &str, range: std::ops::RangeInclusive<Duration>) -> Option<Duration> {
        let show = |it: &Duration| humantime::format_duration(*it).to_string();
        let expected = format!("a time from {} to {}, such as `5s`", show(range.start()), show(range.end()));
        self.parse(path, &expected, |text| {
            humantime::parse_duration(text).ok().filter(|it| range.contains(it)).ok_or(())
        })
    }

    /// A number of bytes.
    pub fn size(&mut self, path: &str) -> Option<u64> {
        self.parse(path, "a size such as `64KiB` or `5MiB`", |text| parse_size(text).ok_or(()))
    }

    /// An address with a port.
    pub fn address(&mut self, path: &str) -> SocketAddr {
        self.optional_address(path).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// An address with a port, if there is one.
    pub fn optional_address(&mut self, path: &str) -> Option<SocketAddr> {
        self.parse(path, "an address with a port, such as `127.0.0.1:8040`", |text| text.parse().map_err(|_| ()))
    }

    /// A base address of a service, without a slash at the end.
    pub fn url(&mut self, path: &str) -> String {
        self.optional_url(path).unwrap_or_default()
    }

    /// A base address of a service, if there is one.
    pub fn optional_url(&mut self, path: &str) -> Option<String> {
        self.parse(path, "an address that starts with `http://` or `https://`", |text| {
            let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
            let is_fine = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains([' ', '?', '#']));
            if is_fine { Ok(text.trim_end_matches('/').to_owned()) } else { Err(()) }
        })
    }

    /// Several texts.
    pub fn list(&mut self, path: &str) -> Vec<String> {
        let key = format!("{}{path}", self.prefix);
        match self.values.get(&key).map(|(value, _)| value.clone()) {
            Some(Value::Array(list)) => {
                let texts: Option<Vec<_>> = list.iter().map(|it| it.as_str().map(str::to_owned)).collect();
                texts.unwrap_or_else(|| {
                    self.reject(path, "must be a list of texts");
                    Vec::new()
                })
            }
            Some(Value::String(text)) => split_list(&text),
            Some(_) => {
                self.reject(path, "must be a list of texts");
                Vec::new()
            }
            None => split_list(self.default_of(path)),
        }
    }

    /// A file or folder; `None` if none is set.
    pub fn path(&mut self, path: &str) -> Option<PathBuf> {
        self.optional_text(path).map(PathBuf::from)
    }

    /// A secret, also from a variable or a file. Reads the file.
    pub fn secret(&mut self, path: &str) -> Option<Secret> {
        let key = format!("{}{path}", self.prefix);
        let text = match self.values.get(&key).map(|(value, _)| value.clone())? {
            Value::String(text) => text,
            Value::Object(reference) => {
                let one = (reference.len() == 1).then(|| reference.iter().next()).flatten();
                match one.and_then(|(kind, value)| Some((kind.as_str(), value.as_str()?))) {
                    Some(("env", name)) => (self.lookup)(name).or_else(|| {
                        self.reject(path, format!("the variable `{name}` is not set"));
                        None
                    })?,
                    Some(("file", file)) => match read_secret(file) {
                        Ok(text) => text,
                        Err(error) => {
                            self.reject(path, format!("the file `{file}` cannot be read: {error}"));
                            return None;
                        }
                    },
                    _ => {
                        self.reject(path, "must be a text, `{ env = \"NAME\" }` or `{ file = \"path\" }`");
                        return None;
                    }
                }
            }
            _ => {
                self.reject(path, "must be a text, `{ env = \"NAME\" }` or `{ file = \"path\" }`");
                return None;
            }
        };
        let text = text.trim();
        (!text.is_empty()).then(|| Secret::new(text))
    }

    fn default_of(&self, path: &str) -> &'static str {
        let normal = match self.prefix.split_once('[') {
            Some((list, _)) => format!("{list}[].{path}"),
            None => path.to_owned(),
        };
        debug_assert!(self.keys.iter().any(|key| key.path == normal), "`{normal}` is missing from the list of keys");
        self.keys.iter().find(|key| key.path == normal).map_or("", |key| key.default)
    }

    /// `None` when neither a value nor a default is there.
    fn parse<T>(&mut self, path: &str, expected: &str, parse: impl Fn(&str) -> Result<T, ()>) -> Option<T> {
        let key = format!("{}{path}", self.prefix);
        let default = self.default_of(path);
        let text = match self.values.get(&key).map(|(value, _)| value) {
            None => default.to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(it)) => it.to_string(),
            Some(Value::Number(it)) => it.to_string(),
            Some(_) => {
                self.reject(path, format!("must be {expected}"));
                default.to_owned()
            }
        };
        if text.is_empty() {
            return None;
        }
        parse(&text)
            .or_else(|()| {
                self.reject(path, format!("must be {expected}, not `{text}`"));
                parse(default)
            })
            .ok()
    }
}

fn read_secret(file: &str) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(file)?.take(MAX_SECRET_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn split_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

/// `5MiB`, `64KiB`, `1GiB`, `100KB` (1024, as ld-relay reads it), `17`.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}
