//! JSON text that is edited and not rebuilt: everything else stays as it was written, including the text of numbers and
//! unknown properties.
//!
//! ```
//! use yardarm_plugin::json::Object;
//!
//! let mut flag = Object::parse(r#"{"key": "a", "on": true, "weight": 1.50}"#)?;
//! flag.set("on", "false");
//! assert_eq!(flag.to_string(), r#"{"key":"a","on":false,"weight":1.50}"#);
//! # Ok::<(), yardarm_plugin::PluginError>(())
//! ```

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::Result;

/// A JSON object whose values are kept as text.
#[derive(Debug, Clone, Default)]
pub struct Object<'a> {
    members: Vec<Member<'a>>,
}

/// A name and the JSON text of its value.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The name as written, with quotes.
    written: Cow<'a, str>,
    /// The unescaped name, if it differs from the text between the quotes.
    decoded: Option<String>,
    value: Cow<'a, str>,
}

impl<'a> Object<'a> {
    /// Parses an object, one level deep.
    ///
    /// # Errors
    ///
    /// [`PluginError::InvalidInput`](crate::PluginError) if the text is not a JSON object.
    pub fn parse(json: &'a str) -> Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let members = (&mut deserializer).deserialize_map(Members)?;
        deserializer.end()?;
        Ok(Self { members })
    }

    /// Returns the JSON text of a member's value; of the last one if several have this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.members.iter().rev().find(|member| member.name() == name).map(Member::value)
    }

    /// Returns the text of a member's value, if it is a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).and_then(text)
    }

    /// Sets a member to JSON text: in its place if the name exists, else at the end.
    pub fn set(&mut self, name: &str, json: impl Into<Cow<'a, str>>) {
        if let Some(first) = self.members.iter().position(|member| member.name() == name) {
            self.members[first].set_value(json);
            let mut at = 0;
            self.members.retain(|member| {
                at += 1;
                at <= first + 1 || member.name() != name
            });
        } else {
            let written = quoted(name);
            let decoded = (inside(&written) != name).then(|| name.to_owned());
            self.members.push(Member { written: written.into(), decoded, value: json.into() });
        }
    }

    /// Removes all members of this name; returns whether there were any.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.members.len();
        self.members.retain(|member| member.name() != name);
        self.members.len() < before
    }

    /// Returns the members in order.
    pub fn iter(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter()
    }

    /// Returns the members in order, to change their values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member<'a>> {
        self.members.iter_mut()
    }

    /// Keeps the members for which `keep` returns true.
    pub fn retain(&mut self, keep: impl FnMut(&mut Member<'a>) -> bool) {
        self.members.retain_mut(keep);
    }

    /// Returns the object as compact JSON text, like `to_string` but with a single allocation.
    #[must_use]
    pub fn to_json(&self) -> String {
        let parts = self.members.iter().map(|member| member.written.len() + member.value.len() + 2);
        let mut json = String::with_capacity(parts.sum::<usize>() + 2);
        // Writing to a `String` cannot fail.
        let _ = self.write(&mut json);
        json
    }

    fn write(&self, out: &mut impl fmt::Write) -> fmt::Result {
        for (index, member) in self.members.iter().enumerate() {
            out.write_str(if index == 0 { "{" } else { "," })?;
            out.write_str(&member.written)?;
            out.write_str(":")?;
            out.write_str(&member.value)?;
        }
        out.write_str(if self.members.is_empty() { "{}" } else { "}" })
    }
}

impl<'a> Member<'a> {
    /// Returns the unescaped name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.decoded.as_deref().unwrap_or_else(|| inside(&self.written))
    }

    /// Returns the JSON text of the value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Sets the value to JSON text.
    pub fn set_value(&mut self, json: impl Into<Cow<'a, str>>) {
        self.value = json.into();
    }
}

/// Formats the object as compact JSON text.
impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

/// Returns the JSON texts of the elements of a JSON array.
///
/// # Errors
///
/// [`PluginError::InvalidInput`](crate::PluginError) if the text is not a JSON array.
pub fn elements(json: &str) -> Result<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(json)?;
    Ok(elements.into_iter().map(RawValue::get).collect())
}

/// Returns the text of a JSON string; `None` if it is something else.
#[must_use]
pub fn text(json: &str) -> Option<Cow<'_, str>> {
    let json = json.trim();
    if !json.starts_with('"') {
        return None;
    }
    if json.contains('\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inside(json)))
}

/// Formats a text as a JSON string.
#[must_use]
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string has a JSON text")
}

fn inside(quoted: &str) -> &str {
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some((written, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            let written = written.get();
            let decoded = written.contains('\\').then(|| serde_json::from_str(written)).transpose();
            let decoded = decoded.map_err(serde::de::Error::custom)?;
            members.push(Member { written: written.into(), decoded, value: value.get().into() });
        }
        Ok(members)
    }
}

impl From<Object<'_>> for Vec<u8> {
    fn from(object: Object<'_>) -> Self {
        object.to_json().into_bytes()
    }
}

/// Compares two JSON texts as values: white space, the order of members and the escaping of strings do not matter.
///
/// # Errors
///
/// [`PluginError::InvalidInput`](crate::PluginError) if one of them is not JSON.
pub fn same(a: &str, b: &str) -> Result<bool> {
    if a == b {
        return Ok(true);
    }
    let (a, b): (serde_json::Value, serde_json::Value) = (serde_json::from_str(a)?, serde_json::from_str(b)?);
    Ok(a == b || a.as_f64().is_some_and(|number| b.as_f64() == Some(number)))
}

/// Joins JSON texts to an array.
#[must_use]
pub fn array<'a>(elements: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::from("[");
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(element);
    }
    text.push(']');
    text
}

impl From<Object<'_>> for Cow<'_, str> {
    fn from(object: Object<'_>) -> Self {
        Self::Owned(object.to_json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PluginError;

    #[test]
    fn untouched_members_keep_their_text() {
        let text = r#"{"a":1.50,"b":{"c" : [1e3, 0.10]},"d":"\u00e9","e":123456789012345678901234567890,"f":null}"#;
        assert_eq!(Object::parse(text).unwrap().to_string(), text);
        let mut object = Object::parse(text).unwrap();
        object.set("f", "true");
        object.set("new \"one\"", "7");
        assert!(object.remove("b") && !object.remove("b"));
        let expected = r#"{"a":1.50,"d":"\u00e9","e":123456789012345678901234567890,"f":true,"new \"one\"":7}"#;
        assert_eq!(object.to_string(), expected);
        assert_eq!(object.get("new \"one\""), Some("7"));
    }

    #[test]
    fn escaped_and_repeated_names_cannot_bypass_an_edit() {
        let mut object = Object::parse(r#"{"em\u0061il":"a","email":"b","x":1,"email":"c"}"#).unwrap();
        assert_eq!(object.text("email").as_deref(), Some("c"));
        let mut other = object.clone();
        assert!(object.remove("email"));
        assert_eq!(object.to_string(), r#"{"x":1}"#);
        other.set("email", "2");
        assert_eq!(other.to_string(), r#"{"em\u0061il":2,"x":1}"#);
    }

    #[test]
    fn other_things_are_refused() {
        for text in ["", "[]", "1", "{", "{\"a\"}", "{\"a\":1}{", "{1:2}", "{\"a\":1,}", "null", "{\"\\ud800\":1}"] {
            assert!(matches!(Object::parse(text), Err(PluginError::InvalidInput(_))), "{text}");
        }
        assert_eq!(Object::parse(" { } ").unwrap().to_string(), "{}");
    }

    #[test]
    fn texts_and_arrays() {
        assert_eq!(text(r#""a\nb""#).as_deref(), Some("a\nb"));
        assert_eq!(text("\"plain\"").as_deref(), Some("plain"));
        assert_eq!(text("1"), None);
        assert_eq!(elements("[1.0, \"a\", {}]").unwrap(), ["1.0", "\"a\"", "{}"]);
        assert_eq!(array(["1.0", "\"a\""]), "[1.0,\"a\"]");
        assert!(same("{\"a\":1,\"b\":2}", "{ \"b\":2, \"a\":1 }").unwrap());
        assert!(same("1", "1.0").unwrap() && !same("1", "\"1\"").unwrap() && same("1", "x").is_err());
    }

    proptest::proptest! {
        #[test]
        fn editing_nothing_changes_no_value(text in "[\\{\\}\\[\\]\":,a\\\\0-9. ]{0,40}") {
            let read = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
            // Names that only differ in escaping collapse in a map, so the texts are compared as values.
            if let Ok(object) = Object::parse(&text) {
                let written = object.to_string();
                assert_eq!(object.to_json(), written);
                if let Ok(map) = read {
                    assert_eq!(serde_json::from_str::<serde_json::Map<_, _>>(&written).unwrap(), map);
                }
            } else {
                assert!(read.is_err(), "{text}");
            }
        }
    }
}
