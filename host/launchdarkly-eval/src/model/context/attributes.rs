//! Attributes of a context as JSON texts.

use super::super::json::JsonReader;
use super::super::json::syntax::check;
use super::super::value::Value;
use super::{Context, ContextError, Part};

/// Attributes that every individual context has, or may have, outside of its list of attributes.
const NAME: &str = "name";
const ANONYMOUS: &str = "anonymous";

impl Context {
    /// The kinds of the individual contexts, sorted.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(Part::kind)
    }

    /// The key of the individual context of a kind.
    #[must_use]
    pub fn key_of(&self, kind: &str) -> Option<&str> {
        self.part(kind).map(Part::key)
    }

    /// The names of the attributes of a kind, sorted, without `kind` and `key`.
    #[must_use]
    pub fn attribute_names(&self, kind: &str) -> Vec<&str> {
        let Some(part) = self.part(kind) else { return Vec::new() };
        let built_in = [(ANONYMOUS, part.anonymous == Value::Boolean(true)), (NAME, part.name.is_some())];
        let built_in = built_in.into_iter().filter(|(_, is_present)| *is_present).map(|(name, _)| name);
        let mut names: Vec<_> = built_in.chain(part.attributes.iter().map(|(name, _)| &**name)).collect();
        names.sort_unstable();
        names
    }

    /// Sets an attribute to a JSON text. Kinds that the context does not have are ignored.
    ///
    /// # Errors
    ///
    /// When `json` is not JSON, or not a text for the attribute `name`.
    pub fn set_attribute(&mut self, kind: &str, name: &str, json: &[u8]) -> Result<(), ContextError> {
        check(json)?;
        let text = String::from_utf8_lossy(json);
        let mut reader = JsonReader::new(&text);
        if name == NAME {
            reader.clone().string()?;
        }
        let value = Value::read(&mut reader)?;
        let Some(part) = self.parts.iter_mut().find(|part| part.kind() == kind) else { return Ok(()) };
        if name == NAME {
            part.name = Some(value);
        } else {
            match part.attributes.binary_search_by(|(it, _)| (**it).cmp(name)) {
                Ok(index) => part.attributes[index].1 = value,
                Err(index) => part.attributes.insert(index, (name.into(), value)),
            }
        }
        self.size += name.len() + json.len();
        self.longest_text = self.longest_text.max(part.longest_text());
        Ok(())
    }

    /// The JSON text of an attribute of a kind.
    #[must_use]
    pub fn attribute_json(&self, kind: &str, name: &str) -> Option<String> {
        let part = self.part(kind)?;
        let value = match name {
            NAME => part.name.as_ref()?,
            ANONYMOUS => Some(&part.anonymous).filter(|it| **it == Value::Boolean(true))?,
            name => {
                let index = part.attributes.binary_search_by(|(it, _)| (**it).cmp(name)).ok()?;
                &part.attributes[index].1
            }
        };
        let mut text = Vec::new();
        value.write(&mut text);
        String::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_by_kind_and_name() {
        let json = br#"{"kind":"multi","org":{"key":"o"},"user":{"key":"u","name":"Ada","plan":["gold"],"age":7,"anonymous":true}}"#;
        let context = Context::parse(json).unwrap();
        assert_eq!(context.kinds().collect::<Vec<_>>(), ["org", "user"]);
        assert_eq!((context.key_of("org"), context.key_of("device")), (Some("o"), None));
        assert_eq!(context.attribute_names("user"), ["age", "anonymous", "name", "plan"]);
        assert_eq!(context.attribute_names("org"), Vec::<&str>::new());
        for (kind, name, expected) in [
            ("user", "plan", Some(r#"["gold"]"#)),
            ("user", "age", Some("7")),
            ("user", "name", Some("\"Ada\"")),
            ("user", "anonymous", Some("true")),
            ("user", "key", None),
            ("org", "anonymous", None),
            ("org", "plan", None),
        ] {
            assert_eq!(context.attribute_json(kind, name).as_deref(), expected, "{kind} {name}");
        }
    }

    #[test]
    fn attributes_are_set_or_replaced() {
        let mut context = Context::parse(br#"{"kind":"user","key":"u","plan":"free"}"#).unwrap();
        for (name, json) in
            [("plan", "\"gold\""), ("country", "\"DE\""), ("name", "\"Ada\""), ("tags", "[1,{\"a\":null}]")]
        {
            context.set_attribute("user", name, json.as_bytes()).unwrap();
            assert_eq!(context.attribute_json("user", name).as_deref(), Some(json));
        }
        context.set_attribute("org", "plan", b"1").unwrap();
        let expected = br#"{"kind":"user","key":"u","name":"Ada","plan":"gold","country":"DE","tags":[1,{"a":null}]}"#;
        assert_eq!(context, Context::parse(expected).unwrap());
        for (name, json) in [("name", "7"), ("plan", "{"), ("plan", "1 2")] {
            assert!(context.set_attribute("user", name, json.as_bytes()).is_err(), "{name} {json}");
        }
    }
}
