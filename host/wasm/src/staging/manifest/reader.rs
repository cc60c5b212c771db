//! Strict parsing of tables: every key is read or reported, and every error has its path.

use std::sync::Arc;

use crate::vocabulary::{GRANTS, GrantPattern, Grants, Pattern, Required};

/// The errors so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<String>);

/// One table, with the keys that were read.
pub(super) struct Section<'a> {
    path: &'a str,
    table: &'a toml::Table,
    known: Vec<&'static str>,
    faults: &'a mut Faults,
}

impl Faults {
    pub(super) fn add(&mut self, path: &str, text: impl std::fmt::Display) {
        self.0.push(format!("`{path}`: {text}"));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn into_inner(self) -> Vec<String> {
        self.0
    }
}

impl<'a> Section<'a> {
    pub(super) fn new(path: &'a str, table: &'a toml::Table, faults: &'a mut Faults) -> Self {
        Self { path, table, known: Vec::new(), faults }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let value = self.get(key)?;
        value.as_str().or_else(|| self.wrong(key, "a text"))
    }

    /// Returns a value that is read elsewhere.
    pub(super) fn any(&mut self, key: &'static str) -> Option<&'a toml::Value> {
        self.get(key)
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        value.as_bool().or_else(|| self.wrong(key, "`true` or `false`"))
    }

    pub(super) fn required(&mut self, key: &'static str) -> Option<Required> {
        let value = self.get(key)?;
        Required::of_toml(value).or_else(|| self.wrong(key, "`true`, `false` or `\"always\"`"))
    }

    pub(super) fn integer(&mut self, key: &'static str, least: i64, most: i64) -> Option<i64> {
        let value = self.get(key)?;
        let number = value.as_integer().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let range = if least == i64::MIN { String::new() } else { format!(" from {least} to {most}") };
            self.fault(key, format!("must be a whole number{range}"));
        }
        number
    }

    pub(super) fn table(&mut self, key: &'static str) -> Option<&'a toml::Table> {
        let value = self.get(key)?;
        value.as_table().or_else(|| self.wrong(key, "a table"))
    }

    pub(super) fn tables(&mut self, key: &'static str) -> Vec<&'a toml::Table> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let tables = value.as_array().and_then(|array| array.iter().map(toml::Value::as_table).collect());
        tables.or_else(|| self.wrong(key, "a list of tables, written `[[bind]]`")).unwrap_or_default()
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Vec<Arc<str>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let texts = value.as_array().and_then(|array| array.iter().map(|it| it.as_str().map(Arc::from)).collect());
        texts.or_else(|| self.wrong(key, "a list of texts")).unwrap_or_default()
    }

    pub(super) fn patterns(&mut self, key: &'static str) -> Vec<Pattern> {
        self.texts(key).iter().map(|text| Pattern::from(&**text)).collect()
    }

    pub(super) fn choices(&mut self, key: &'static str, known: &[&str]) -> Vec<Arc<str>> {
        let texts = self.texts(key);
        for text in texts.iter().filter(|text| !known.contains(&&***text)) {
            self.fault(key, unknown("value", text, known));
        }
        texts
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.fault(key, unknown("value", text, &names));
        }
        found
    }

    pub(super) fn required_choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        if !self.table.contains_key(key) {
            self.fault(key, "is missing");
        }
        self.choice(key, choices)
    }

    /// Accepts a key whose value cannot be checked.
    pub(super) fn skip<T>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        None
    }

    /// Reports the keys that were not read.
    pub(super) fn end(self) {
        for key in self.table.keys().filter(|key| !self.known.contains(&key.as_str())) {
            let text = unknown("key", key, &self.known);
            self.faults.add(&join(self.path, key), text);
        }
    }

    fn get(&mut self, key: &'static str) -> Option<&'a toml::Value> {
        self.known.push(key);
        self.table.get(key)
    }

    fn wrong<T>(&mut self, key: &str, wanted: &str) -> Option<T> {
        self.fault(key, format!("must be {wanted}"));
        None
    }

    fn fault(&mut self, key: &str, text: impl std::fmt::Display) {
        self.faults.add(&join(self.path, key), text);
    }
}

/// Reads a list of grants.
pub(super) fn read_grants(texts: &[Arc<str>], faults: &mut Faults) -> Grants {
    let mut grants = Grants::default();
    for text in texts {
        if GrantPattern::parse(text).is_some() {
            let fault = format!("`{text}` is a pattern, which only a manifest may want; grant a header, URL or secret");
            faults.add("plugin.grants", fault);
        } else if !grants.add(text) {
            faults.add(
                "plugin.grants",
                unknown("grant", text, &GRANTS.iter().map(|(grant, _)| *grant).collect::<Vec<_>>()),
            );
        }
    }
    grants
}

/// Reads a digest of 64 hexadecimal digits.
pub(super) fn read_sha256(text: &str, faults: &mut Faults) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex::decode_to_slice(text, &mut digest).is_err() {
        faults.add("plugin.sha256", "must be 64 hexadecimal digits, as `sha256sum` prints them");
        return None;
    }
    Some(digest)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Formats "unknown key `x`, did you mean `y`?", or the list of known keys.
fn unknown(what: &str, text: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 3);
    match nearest {
        Some((_, nearest)) => format!("unknown {what} `{text}`, did you mean `{nearest}`?"),
        None => format!("unknown {what} `{text}`, expected one of `{}`", known.join("`, `")),
    }
}
