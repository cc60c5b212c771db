//! Attributes of a context as JSON texts.

use super::super::value::Value;
use super::{Context, Part};

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
}
