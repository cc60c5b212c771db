//! Kinds and keys of a context, without its other attributes.

use std::borrow::Cow;

use super::super::json::JsonReader;
use super::parse::{MULTI, checked_kind, kind_only, sort_by_kind};
use super::{ContextError, USER, canonical_key};

/// Kinds and keys of a context.
///
/// Contexts inside of events were redacted by the SDK, so their other properties need not be those of a context and are
/// not read (`UnmarshalWithKindAndKeyOnly` in `go-sdk-common`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextKeys {
    /// Sorted by kind; never empty, no kind twice.
    parts: Vec<KindAndKey>,
}

type KindAndKey = (Box<str>, Box<str>);

impl ContextKeys {
    /// Reads kinds and keys of a context, multi-context or user of the old format; `json` must be JSON.
    pub fn parse(json: &str) -> Result<Self, ContextError> {
        let mut reader = JsonReader::new(json);
        let parts = match kind_only(reader.clone())?.as_deref() {
            None => vec![(USER.into(), old_key(&mut reader)?)],
            Some(MULTI) => multi(&mut reader)?,
            Some(_) => vec![individual(&mut reader, None)?],
        };
        Ok(Self { parts })
    }

    /// As [`super::Context::canonical_key`].
    #[must_use]
    pub fn canonical_key(&self) -> Cow<'_, str> {
        canonical_key(self.parts())
    }

    /// Kind and key of each individual context, sorted by kind.
    #[must_use]
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.parts.iter().map(|(kind, key)| (&**kind, &**key))
    }
}

/// The key of a user of the old format, which may be empty.
fn old_key(reader: &mut JsonReader<'_>) -> Result<Box<str>, ContextError> {
    let mut found = None;
    reader.object(|name, reader| {
        match name {
            "key" => found = Some(reader.string()?.into()),
            _ => drop(reader.skip()),
        }
        Ok::<_, ContextError>(())
    })?;
    found.ok_or(ContextError::KeyMissing)
}

fn multi(reader: &mut JsonReader<'_>) -> Result<Vec<KindAndKey>, ContextError> {
    let mut parts = Vec::new();
    reader.object(|name, reader| {
        match name {
            "kind" => drop(reader.skip()),
            _ => parts.push(individual(reader, Some(name))?),
        }
        Ok::<_, ContextError>(())
    })?;
    sort_by_kind(&mut parts, |(kind, _)| kind)?;
    Ok(parts)
}

/// One individual context; `kind` is the name it has in a multi-context.
fn individual(reader: &mut JsonReader<'_>, kind: Option<&str>) -> Result<KindAndKey, ContextError> {
    let mut kind: Box<str> = kind.unwrap_or_default().into();
    let mut key = None;
    reader.object(|name, reader| {
        match name {
            "kind" => kind = reader.string()?.into(),
            "key" => key = Some(reader.optional(JsonReader::string)?.ok_or(ContextError::KeyNull)?.into()),
            _ => drop(reader.skip()),
        }
        Ok::<_, ContextError>(())
    })?;
    let key: Box<str> = key.ok_or(ContextError::KeyMissing)?;
    let kind = checked_kind(&kind)?.into();
    if key.is_empty() { Err(ContextError::KeyEmpty) } else { Ok((kind, key)) }
}

#[cfg(test)]
mod tests {
    use super::super::Context;
    use super::*;

    #[test]
    fn only_kinds_and_keys_are_read() {
        for (json, expected) in [
            (r#"{"key":"u1","privateAttrs":["name"]}"#, Ok("u1")),
            (r#"{"key":"","name":3}"#, Ok("")),
            (r#"{"kind":"user","key":"u","anonymous":"no boolean"}"#, Ok("u")),
            (r#"{"key":"o:1%","kind":"org","_meta":[]}"#, Ok("org:o%3A1%25")),
            (r#"{"kind":"multi","user":{"key":"u"},"org":{"key":"o","x":1}}"#, Ok("org:o:user:u")),
            (r#"{"kind":"multi","user":{"key":"u"}}"#, Ok("u")),
            ("[]", Err("expected object, got array at position 0")),
            ("{}", Err("\"key\" property not found in JSON context object")),
            (r#"{"key":3}"#, Err("expected string, got number at position 7")),
            (r#"{"kind":"org","key":null}"#, Err("context key must not be null")),
            (r#"{"kind":"org","key":""}"#, Err("context key must not be empty")),
            (r#"{"kind":"","key":"k"}"#, Err("context kind cannot be empty")),
            (r#"{"kind":"kind","key":"k"}"#, Err("\"kind\" is not a valid context kind")),
            (r#"{"kind":"ö","key":"k"}"#, Err("context kind contains disallowed characters")),
            (r#"{"kind":"multi"}"#, Err("multi-context must contain at least one kind")),
            (r#"{"kind":"multi","multi":{"key":"k"}}"#, Err("single context cannot have the kind \"multi\"")),
        ] {
            let found = ContextKeys::parse(json);
            let found = found.as_ref().map(|it| it.canonical_key().into_owned()).map_err(ToString::to_string);
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{json}");
        }
    }

    proptest::proptest! {
        #[test]
        fn keys_equal_those_of_contexts(kind in "user|org|multi|a\\.b", key in "[a:%é\"\\\\]{0,4}", other in "[a:]{1,2}") {
            let key = serde_json::Value::from(key);
            for json in [
                format!(r#"{{"key":{key},"custom":{{"a":[1]}}}}"#),
                format!(r#"{{"kind":"{kind}","key":{key},"name":"n"}}"#),
                format!(r#"{{"kind":"multi","{kind}":{{"key":{key}}},"device":{{"key":"{other}","a":{{}}}}}}"#),
            ] {
                let context = Context::parse(json.as_bytes());
                let identity = ContextKeys::parse(&json);
                proptest::prop_assert_eq!(
                    identity.map(|it| it.canonical_key().into_owned()),
                    context.map(|it| it.canonical_key().into_owned()),
                );
            }
        }

        #[test]
        fn nothing_makes_it_panic(json in "\\PC*|[\\[\\]{}\",:kindeymult ]*") {
            let _ = ContextKeys::parse(&json);
        }
    }
}
