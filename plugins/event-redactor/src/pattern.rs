//! Patterns for attributes: `email`, `user.email`, `*.address.street`.
//!
//! Parts are separated by dots. A single part is an attribute of contexts of any kind; with more, the first part is the
//! kind of context and the rest the path of the attribute, inside objects if there are several steps. In each part `*`
//! matches any text and `?` any one character, and `\.` is a dot that belongs to a name. A leading `context.` is
//! allowed and has no effect.

use serde::Deserialize;
use yardarm_plugin::matches;

/// A pattern for attributes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pattern {
    kind: String,
    path: Vec<String>,
}

/// The relation of an attribute to a pattern. The order matters: of several patterns, the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Match {
    /// The pattern does not apply.
    None,
    /// The pattern applies to something inside the attribute.
    Inside,
    /// The pattern applies to the attribute itself.
    Whole,
}

impl Pattern {
    /// Compares the pattern with the attribute `name`, inside the one at `path` unless that is empty, of contexts of a
    /// kind.
    pub(crate) fn compare(&self, kind: &str, path: &[&str], name: &str) -> Match {
        let steps = path.len() + 1;
        let fits = self.path.len() >= steps
            && matches(&self.path[path.len()], name)
            && self.path.iter().zip(path).all(|(pattern, step)| matches(pattern, step))
            && matches(&self.kind, kind);
        match fits {
            false => Match::None,
            true if self.path.len() > steps => Match::Inside,
            true => Match::Whole,
        }
    }

    /// Returns the name of the attribute, if the pattern has one step.
    pub(crate) fn only_name(&self) -> Option<&str> {
        if let [name] = &self.path[..] { Some(name) } else { None }
    }
}

impl TryFrom<String> for Pattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let mut parts = split(&text);
        if parts.len() > 1 && parts[0] == "context" {
            parts.remove(0);
        }
        if parts.iter().any(String::is_empty) {
            return Err("an attribute is written like `email`, `user.email` or `*.address.street`");
        }
        let kind = if parts.len() > 1 { parts.remove(0) } else { "*".to_owned() };
        Ok(Self { kind, path: parts })
    }
}

/// Splits at dots that are not preceded by a backslash.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let Some(part) = parts.last_mut() else { break };
        match character {
            '\\' if characters.next_if_eq(&'.').is_some() => part.push('.'),
            '.' => parts.push(String::new()),
            _ => part.push(character),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_attributes() {
        for (pattern, kind, path, expected) in [
            ("email", "user", &["email"][..], Match::Whole),
            ("email", "org", &["email"], Match::Whole),
            ("email", "user", &["emails"], Match::None),
            ("e*", "user", &["emails"], Match::Whole),
            ("user.email", "user", &["email"], Match::Whole),
            ("user.email", "org", &["email"], Match::None),
            ("context.*.name", "org", &["name"], Match::Whole),
            ("context.name", "org", &["name"], Match::Whole),
            ("*.address.street", "user", &["address"], Match::Inside),
            ("*.address.street", "user", &["address", "street"], Match::Whole),
            ("*.address.street", "user", &["address", "city"], Match::None),
            ("*.address", "user", &["address", "street"], Match::None),
            (r"a\.b", "user", &["a.b"], Match::Whole),
            (r"dev*.a\.b", "device", &["a.b"], Match::Whole),
            ("context", "user", &["context"], Match::Whole),
        ] {
            let Some((name, outer)) = path.split_last() else { panic!("no path") };
            let parsed = Pattern::try_from(pattern.to_owned()).unwrap();
            assert_eq!(parsed.compare(kind, outer, name), expected, "{pattern} {kind} {path:?}");
        }
    }

    #[test]
    fn empty_parts_are_refused() {
        for pattern in ["", ".", "a.", ".a", "a..b", "context."] {
            assert!(Pattern::try_from(pattern.to_owned()).is_err(), "{pattern}");
        }
    }
}
