//! Conversion of raw values to typed ones, collecting every error.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::references::{Reference, resolve};
use super::shown::instead;
use super::{Bounds, Key, Kind, SettingError, ValueSource, Values, is_empty};
use crate::secret::Secret;

/// Reads typed values and collects errors. After an error it continues with the default, so that all errors are found.
pub struct Reader<'a> {
    values: &'a Values,
    keys: &'a [Key],
    prefix: String,
    errors: Vec<SettingError>,
    /// Resolved references of secrets, by path of the key.
    references: BTreeMap<&'a str, Reference>,
}

impl<'a> Reader<'a> {
    /// Creates a reader of `values`; `lookup` resolves `{ env = "NAME" }`.
    #[must_use]
    pub fn new(values: &'a Values, keys: &'a [Key], lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        let references = values.entries().filter_map(|(path, value, _)| Some((path, resolve(value, lookup)?)));
        Self { values, keys, prefix: String::new(), errors: Vec::new(), references: references.collect() }
    }

    /// Returns all errors.
    #[must_use]
    pub fn into_errors(self) -> Vec<SettingError> {
        self.errors
    }

    /// Returns whether the key `section`, or any key below it, is set.
    #[must_use]
    pub fn has_section(&self, section: &str) -> bool {
        let is_set = |path: &str| !matches!(self.references.get(path), Some(Reference::Empty(_)));
        self.values.entries().any(|(path, _, _)| path.strip_prefix(section).is_some_and(is_below) && is_set(path))
    }

    /// Reads each entry of a list of tables that has values; paths inside `read` are relative to the entry.
    pub fn each<T>(&mut self, list: &str, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        self.indices(list)
            .into_iter()
            .map(|index| {
                let outer = std::mem::replace(&mut self.prefix, format!("{list}[{index}]."));
                let item = read(self);
                self.prefix = outer;
                item
            })
            .collect()
    }

    /// Returns the indices of the entries that [`Self::each`] reads, in the same order.
    #[must_use]
    pub fn indices(&self, list: &str) -> Vec<usize> {
        self.values.indices_of(list).into_iter().collect()
    }

    /// Adds an error about a key, unless the key already has one: consequences of an error are not reported.
    pub fn reject(&mut self, path: &str, problem: impl Into<String>) {
        let key = format!("{}{path}", self.prefix);
        if self.errors.iter().any(|it| it.key == key) {
            return;
        }
        // The error of a section is reported at the first value in it.
        let is_it = |it: &str| it.strip_prefix(key.as_str()).is_some_and(is_below);
        let source = self.values.entries().find(|(it, _, _)| is_it(it)).map(|(_, _, source)| source);
        let from = match (source, self.references.get(key.as_str())) {
            (Some(source), Some(Reference::Empty(what))) => format!(" ({source}; {what} is empty)"),
            (Some(source), _) => format!(" ({source})"),
            (None, _) => String::new(),
        };
        let place = source.and_then(|it| if let ValueSource::File(place) = it { place.clone() } else { None });
        self.errors.push(SettingError { key, from, place, problem: problem.into() });
    }

    /// Reads a text; the default may be empty.
    pub fn text(&mut self, path: &str) -> String {
        self.parse(path, "a text", |text| Ok(text.to_owned())).unwrap_or_default()
    }

    /// Reads an optional text.
    pub fn optional_text(&mut self, path: &str) -> Option<String> {
        self.parse(path, "a text", |text| Ok(text.to_owned())).filter(|text| !text.is_empty())
    }

    /// Returns a value that was read. If it is not set, adds an error and returns an empty one.
    pub fn require<T: From<&'static str>>(&mut self, path: &str, value: Option<T>) -> T {
        value.unwrap_or_else(|| {
            self.reject(path, "is required");
            T::from("")
        })
    }

    /// Reads `true` or `false`.
    pub fn flag(&mut self, path: &str) -> bool {
        self.parse(path, "`true` or `false`", |text| match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(()),
        })
        .unwrap_or_default()
    }

    /// Reads one of some texts, each of which stands for a value, or else returns the value of the default. `hint` ends
    /// the error about other texts.
    pub fn choice<T: Copy>(&mut self, path: &str, choices: &[(&str, T)], hint: &str) -> T {
        let text = self.text(path);
        let value_of = |text: &str| choices.iter().find(|it| it.0 == text).map(|it| it.1);
        value_of(&text).unwrap_or_else(|| {
            self.reject(path, format!("must be {}{hint}", alternatives(choices.iter().map(|it| it.0))));
            value_of(self.default_of(path)).unwrap_or(choices[0].1)
        })
    }

    /// Reads an integer within the bounds of the key.
    pub fn count(&mut self, path: &str) -> u64 {
        let range = match self.key_of(path).and_then(|key| key.bounds) {
            Some(Bounds::Count(least, greatest)) => least..=greatest,
            _ => 0..=u64::MAX,
        };
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.parse(path, &expected, |text| text.parse().ok().filter(|it| range.contains(it)).ok_or(()))
            .unwrap_or(*range.start())
    }

    /// Reads a duration within the bounds of the key.
    pub fn duration(&mut self, path: &str) -> Duration {
        self.optional_duration(path).unwrap_or(*self.durations_of(path).start())
    }

    /// Reads an optional duration within the bounds of the key.
    pub fn optional_duration(&mut self, path: &str) -> Option<Duration> {
        let range = self.durations_of(path);
        let show = |it: &Duration| humantime::format_duration(*it).to_string();
        let expected = format!("a time from {} to {}, such as `5s`", show(range.start()), show(range.end()));
        self.parse(path, &expected, |text| {
            humantime::parse_duration(text).ok().filter(|it| range.contains(it)).ok_or(())
        })
    }

    /// Reads a number of bytes above zero: a limit of zero would reject everything.
    pub fn size(&mut self, path: &str) -> Option<u64> {
        let expected = "a size above zero, such as `64KiB` or `5MiB`";
        self.parse(path, expected, |text| parse_size(text).filter(|it| *it > 0).ok_or(()))
    }

    /// Reads an address with a port.
    pub fn address(&mut self, path: &str) -> SocketAddr {
        self.optional_address(path).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Reads an optional address with a port.
    pub fn optional_address(&mut self, path: &str) -> Option<SocketAddr> {
        self.parse(path, "an address with a port, such as `127.0.0.1:8040`", |text| text.parse().map_err(|_| ()))
    }

    /// Reads the base URL of a service; returns it without a trailing slash.
    pub fn url(&mut self, path: &str) -> String {
        self.optional_url(path).unwrap_or_default()
    }

    /// Reads the optional base URL of a service. User name and password are rejected: both vendors' requests are
    /// authorized by a header that they would replace.
    pub fn optional_url(&mut self, path: &str) -> Option<String> {
        let expected = "an address such as `https://host/path`, without user name and password";
        self.parse(path, expected, |text| {
            let uri: http::Uri = text.parse().map_err(|_| ())?;
            let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
            // Only a host and a port may precede the path.
            let host = uri.host().filter(|it| !it.is_empty()).ok_or(())?;
            let port = uri.authority().and_then(|it| it.as_str().strip_prefix(host)).ok_or(())?;
            let has_port = |it: &str| it.parse::<u16>().is_ok_and(|it| it > 0);
            let is_plain = port.is_empty() || port.strip_prefix(':').is_some_and(has_port);
            let is_fine = is_http && is_plain && !text.contains(['?', '#']);
            if is_fine { Ok(text.trim_end_matches('/').to_owned()) } else { Err(()) }
        })
    }

    /// Reads a list of texts.
    pub fn list(&mut self, path: &str) -> Vec<String> {
        let key = format!("{}{path}", self.prefix);
        match self.values.get(&key).map(|(value, _)| value.clone()) {
            Some(Value::Array(list)) => {
                let set = list.iter().filter(|it| !is_empty(it));
                let texts: Option<Vec<_>> = set.map(|it| it.as_str().map(|it| it.trim().to_owned())).collect();
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

    /// Reads a file or folder; returns `None` if none is set.
    pub fn path(&mut self, path: &str) -> Option<PathBuf> {
        self.optional_text(path).map(PathBuf::from)
    }

    /// Reads a secret, including one from a variable or a file. Reads the file.
    pub fn secret(&mut self, path: &str) -> Option<Secret> {
        let key = format!("{}{path}", self.prefix);
        let value = self.values.get(&key).map(|(value, _)| value)?;
        let problem = match (value, self.references.get(key.as_str())) {
            (Value::String(text), _) => return Some(Secret::new(text.trim())).filter(|it| !it.is_empty()),
            (_, Some(Reference::Text(secret))) => return Some(secret.clone()),
            (_, Some(Reference::Empty(_))) => return None,
            (_, Some(Reference::Unusable(problem))) => problem.clone(),
            (_, None) => "must be a text, `{ env = \"NAME\" }` or `{ file = \"path\" }`".to_owned(),
        };
        self.reject(path, problem);
        None
    }

    /// Reads the secret in the file that the key names, without surrounding white space. Adds an error if the file cannot
    /// be read or is empty.
    pub fn secret_in_file(&mut self, path: &str) -> Option<Secret> {
        let file = self.optional_text(path)?;
        match super::references::read(&file) {
            Ok(text) if text.trim().is_empty() => self.reject(path, format!("the file `{file}` is empty")),
            Ok(text) => return Some(Secret::new(text.trim())),
            Err(error) => self.reject(path, format!("the file `{file}` cannot be read: {error}")),
        }
        None
    }

    fn durations_of(&self, path: &str) -> RangeInclusive<Duration> {
        match self.key_of(path).and_then(|key| key.bounds) {
            Some(Bounds::Duration(shortest, longest)) => shortest..=longest,
            _ => Duration::ZERO..=Duration::MAX,
        }
    }

    /// Returns the default of a key, as it is written in a file.
    #[must_use]
    pub fn default_of(&self, path: &str) -> &'static str {
        self.key_of(path).map_or("", |key| key.default)
    }

    fn key_of(&self, path: &str) -> Option<&'a Key> {
        let normal = match self.prefix.split_once('[') {
            Some((list, _)) => format!("{list}[].{path}"),
            None => path.to_owned(),
        };
        debug_assert!(self.keys.iter().any(|key| key.path == normal), "`{normal}` is missing from the list of keys");
        self.keys.iter().find(|key| key.path == normal)
    }

    /// Returns `None` when there is neither a value nor a default.
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
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let parsed = parse(text).or_else(|()| {
            let kind = self.key_of(path).map_or(Kind::Text, |key| key.kind);
            self.reject(path, format!("must be {expected}{}", instead(kind, text)));
            parse(default)
        });
        parsed.ok()
    }
}

/// Returns whether the rest of a path after that of a section is below the section.
fn is_below(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('.') || rest.starts_with('[')
}

/// Returns texts as the end of a sentence: `a`, `b` or `c`.
fn alternatives<'a>(texts: impl ExactSizeIterator<Item = &'a str>) -> String {
    let last = texts.len() - 1;
    let before = |index| {
        if index == 0 {
            ""
        } else if index == last {
            " or "
        } else {
            ", "
        }
    };
    texts.enumerate().map(|(index, text)| format!("{}`{text}`", before(index))).collect()
}

fn split_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

/// Parses `5MiB`, `64KiB`, `1GiB`, `100KB` (1024, as in ld-relay) or `17`.
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
