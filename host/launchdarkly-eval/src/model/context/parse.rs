//! Reading contexts, in the order and with the errors of the vendor's Go library (`go-sdk-common`, `ldcontext`).

use super::super::json::syntax::check;
use super::super::json::{JsonReader, Mismatch};
use super::super::keys::Text;
use super::super::value::Value;
use super::{Context, ContextError, Part, USER};

pub(super) const MULTI: &str = "multi";

/// Top-level properties of the old user schema that became attributes.
const OLD_USER_ATTRIBUTES: [&str; 6] = ["firstName", "lastName", "email", "country", "avatar", "ip"];

pub(super) fn context(json: &[u8]) -> Result<Context, ContextError> {
    check(json)?;
    let text = String::from_utf8_lossy(json);
    let mut reader = JsonReader::new(text.trim_start_matches([' ', '\n', '\r', '\t']));
    // The property that decides how all others are read may be anywhere.
    let parts = match kind_only(reader.clone())?.as_deref() {
        None => vec![old_user(&mut reader)?],
        Some(MULTI) => multi(&mut reader)?,
        Some(_) => vec![individual(&mut reader, None)?],
    };
    let longest_text = parts.iter().map(Part::longest_text).max().unwrap_or(0);
    Ok(Context { parts, size: json.len(), longest_text })
}

/// The top-level `kind`; the first one, if a document has two.
pub(super) fn kind_only(mut reader: JsonReader<'_>) -> Result<Option<Box<str>>, ContextError> {
    let mut kind: Option<Box<str>> = None;
    reader.object(|name, reader| {
        if name == "kind" && kind.is_none() {
            kind = Some(reader.string()?.into());
        } else {
            reader.skip();
        }
        Ok::<_, ContextError>(())
    })?;
    match kind.as_deref() {
        Some("") => Err(ContextError::KindEmpty),
        _ => Ok(kind),
    }
}

fn multi(reader: &mut JsonReader<'_>) -> Result<Vec<Part>, ContextError> {
    let mut parts: Vec<Part> = Vec::new();
    reader.object(|name, reader| {
        if name == "kind" {
            reader.skip();
        } else {
            parts.push(individual(reader, Some(name))?);
        }
        Ok::<_, ContextError>(())
    })?;
    sort_by_kind(&mut parts, Part::kind)?;
    Ok(parts)
}

/// Brings the parts of a multi-context into order; there must be some, of different kinds.
pub(super) fn sort_by_kind<P>(parts: &mut [P], kind: impl Fn(&P) -> &str) -> Result<(), ContextError> {
    parts.sort_by(|a, b| kind(a).cmp(kind(b)));
    if parts.is_empty() {
        return Err(ContextError::MultiEmpty);
    }
    if parts.windows(2).any(|pair| kind(&pair[0]) == kind(&pair[1])) {
        return Err(ContextError::MultiDuplicate);
    }
    Ok(())
}

/// One individual context; `kind` is the name it has in a multi-context.
fn individual(reader: &mut JsonReader<'_>, kind: Option<&str>) -> Result<Part, ContextError> {
    let mut draft = Draft { kind: kind.unwrap_or_default().into(), ..Draft::default() };
    reader.object(|name, reader| {
        match name {
            // In a multi-context it overrides the name there. No SDK sends it, and the Go library accepts it.
            "kind" => draft.kind = reader.string()?.into(),
            "key" => match reader.optional(JsonReader::string)? {
                Some(key) => draft.key = Some(key.into()),
                None => return Err(ContextError::KeyNull),
            },
            "name" => draft.name = optional_text(reader)?,
            "anonymous" => draft.anonymous = reader.boolean()?,
            "_meta" => meta(reader, &mut draft)?,
            _ => draft.attribute(name, value(reader)?),
        }
        Ok(())
    })?;
    let part = draft.finish()?;
    if part.key().is_empty() {
        return Err(ContextError::KeyEmpty);
    }
    Ok(part)
}

fn meta(reader: &mut JsonReader<'_>, draft: &mut Draft) -> Result<(), ContextError> {
    nullable(reader, |reader| {
        reader.object(|name, reader| {
            match name {
                "privateAttributes" => draft.private = texts(reader)?,
                _ => drop(reader.skip()),
            }
            Ok::<_, ContextError>(())
        })
    })
}

/// A user as SDKs sent it before there were contexts.
fn old_user(reader: &mut JsonReader<'_>) -> Result<Part, ContextError> {
    let mut draft = Draft { kind: USER.into(), ..Draft::default() };
    let mut custom = Vec::new();
    reader.object(|name, reader| {
        match name {
            "key" => draft.key = Some(reader.string()?.into()),
            "name" => draft.name = optional_text(reader)?,
            "secondary" => draft.secondary = optional_text(reader)?,
            "anonymous" => draft.anonymous = reader.optional(JsonReader::boolean)?.unwrap_or(false),
            "custom" => nullable(reader, |reader| {
                reader.object(|name, reader| {
                    let value = value(reader)?;
                    if !matches!(name, "kind" | "key" | "name" | "anonymous" | "_meta") {
                        custom.push((Box::from(name), value));
                    }
                    Ok::<_, ContextError>(())
                })
            })?,
            "privateAttributeNames" => {
                draft.private = texts(reader)?;
                draft.private.iter_mut().filter(|name| name.starts_with('/')).for_each(|name| *name = escaped(name));
            }
            name if OLD_USER_ATTRIBUTES.contains(&name) => {
                let text = optional_text(reader)?;
                draft.attribute(name, text.map_or(Value::Null, |text| Value::Text(Text::new(text))));
            }
            _ => drop(reader.skip()),
        }
        Ok::<_, ContextError>(())
    })?;
    // After the top-level properties, wherever it stood, so that it wins over one of the same name.
    custom.into_iter().for_each(|(name, value)| draft.attribute(&name, value));
    draft.finish()
}

/// An individual context while its properties come in.
#[derive(Default)]
struct Draft {
    kind: Box<str>,
    key: Option<Box<str>>,
    name: Option<Box<str>>,
    anonymous: bool,
    attributes: Vec<(Box<str>, Value)>,
    secondary: Option<Box<str>>,
    private: Vec<Box<str>>,
}

impl Draft {
    fn attribute(&mut self, name: &str, value: Value) {
        if !name.is_empty() {
            self.attributes.push((name.into(), value));
        }
    }

    fn finish(mut self) -> Result<Part, ContextError> {
        let key = self.key.ok_or(ContextError::KeyMissing)?;
        // Of equal names the last one counts: reversed, a stable sort puts it first, where deduplication keeps it.
        self.attributes.reverse();
        self.attributes.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.attributes.dedup_by(|(later, _), (first, _)| later == first);
        self.attributes.retain(|(_, value)| *value != Value::Null);
        Ok(Part {
            kind: Value::Text(Text::new(checked_kind(&self.kind)?)),
            key: Value::Text(Text::new(key)),
            name: self.name.map(|name| Value::Text(Text::new(name))),
            anonymous: Value::Boolean(self.anonymous),
            attributes: self.attributes,
            secondary: self.secondary,
            private: self.private,
        })
    }
}

pub(super) fn checked_kind(kind: &str) -> Result<&str, ContextError> {
    match kind {
        "" => Ok(USER),
        "kind" => Err(ContextError::KindReserved),
        MULTI => Err(ContextError::KindMulti),
        _ if kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) => Ok(kind),
        _ => Err(ContextError::KindCharacters),
    }
}

/// Reads an array or object that may be `null`.
fn nullable(
    reader: &mut JsonReader<'_>,
    read: impl FnOnce(&mut JsonReader<'_>) -> Result<(), ContextError>,
) -> Result<(), ContextError> {
    if reader.null() {
        return Ok(());
    }
    let here = reader.position();
    read(reader).map_err(|error| match error {
        ContextError::Type { expected, found, position, .. } if position == here => {
            ContextError::Type { expected, nullable: true, found, position }
        }
        other => other,
    })
}

fn optional_text(reader: &mut JsonReader<'_>) -> Result<Option<Box<str>>, Mismatch> {
    Ok(reader.optional(JsonReader::string)?.map(Box::from))
}

fn texts(reader: &mut JsonReader<'_>) -> Result<Vec<Box<str>>, ContextError> {
    let mut texts = Vec::new();
    nullable(reader, |reader| {
        reader.array(|reader| {
            texts.push(reader.string()?.into());
            Ok(())
        })
    })?;
    Ok(texts)
}

fn value(reader: &mut JsonReader<'_>) -> Result<Value, ContextError> {
    Ok(Value::read(reader)?)
}

/// A plain attribute name as an attribute reference.
fn escaped(name: &str) -> Box<str> {
    format!("/{}", name.replace('~', "~0").replace('/', "~1")).into()
}
