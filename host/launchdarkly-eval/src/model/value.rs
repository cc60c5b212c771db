//! Attribute values of a context.

use super::json::{JsonReader, Mismatch, Type};
use super::keys::Text;

/// Deepest nesting that is kept, because values are read, compared and freed by recursion. Deeper values are
/// skipped; no flag can refer to them.
const MAX_DEPTH: usize = 100;

/// A JSON value in the form that evaluation needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Boolean(bool),
    Number(f64),
    Text(Text),
    Array(Vec<Value>),
    /// Properties in the order of the document; of equal names the last one counts.
    Object(Vec<(Box<str>, Value)>),
}

impl Value {
    /// Reads the next value of `reader`.
    pub(crate) fn read(reader: &mut JsonReader<'_>) -> Result<Self, Mismatch> {
        Self::read_within(reader, MAX_DEPTH)
    }

    fn read_within(reader: &mut JsonReader<'_>, depth: usize) -> Result<Self, Mismatch> {
        Ok(match reader.peek() {
            Type::Null => {
                reader.skip();
                Self::Null
            }
            Type::Array | Type::Object if depth == 0 => {
                reader.skip();
                Self::Null
            }
            Type::Boolean => Self::Boolean(reader.boolean()?),
            Type::Number => Self::Number(reader.number()?),
            Type::String => Self::Text(Text::new(&*reader.string()?)),
            Type::Array => {
                let mut elements = Vec::new();
                reader.array(|reader| {
                    elements.push(Self::read_within(reader, depth - 1)?);
                    Ok::<_, Mismatch>(())
                })?;
                Self::Array(elements)
            }
            Type::Object => {
                let mut properties = Vec::new();
                reader.object(|name, reader| {
                    properties.push((Box::from(name), Self::read_within(reader, depth - 1)?));
                    Ok::<_, Mismatch>(())
                })?;
                Self::Object(properties)
            }
        })
    }

    /// The property `name`, if this is an object that has it.
    pub(crate) fn property(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(properties) => properties.iter().rev().find(|(it, _)| **it == *name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Bytes of the longest text in it, names of properties aside.
    pub(crate) fn longest_text(&self) -> usize {
        match self {
            Self::Null | Self::Boolean(_) | Self::Number(_) => 0,
            Self::Text(text) => text.as_str().len(),
            Self::Array(elements) => elements.iter().map(Self::longest_text).max().unwrap_or(0),
            Self::Object(properties) => properties.iter().map(|(_, it)| it.longest_text()).max().unwrap_or(0),
        }
    }

    /// Writes the value as JSON.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Boolean(true) => out.extend_from_slice(b"true"),
            Self::Boolean(false) => out.extend_from_slice(b"false"),
            Self::Number(number) => write_number(*number, out),
            Self::Text(text) => write_text(text.as_str(), out),
            Self::Array(elements) => {
                out.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    element.write(out);
                }
                out.push(b']');
            }
            Self::Object(properties) => {
                out.push(b'{');
                for (index, (name, value)) in properties.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_text(name, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// The integer that `number` is, if it is one of 64 bits.
pub(crate) fn as_integer(number: f64) -> Option<i64> {
    // 2^63 as a float; the largest 64-bit integer itself has no exact float.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "range and fraction are checked in the condition")]
    (number.fract() == 0.0 && (-LIMIT..LIMIT).contains(&number)).then_some(number as i64)
}

/// Writes `text` as a JSON string.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    // Writing text to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

fn write_number(number: f64, out: &mut Vec<u8>) {
    match as_integer(number) {
        Some(integer) => out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes()),
        None => out.extend_from_slice(ryu::Buffer::new().format(number).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_it_read() {
        for (text, expected) in [
            (r#"{"a":[1,2.5,"x\n",null,true,false,{}],"b":-0.0}"#, r#"{"a":[1,2.5,"x\n",null,true,false,{}],"b":0}"#),
            ("1e3", "1000"),
            ("1e300", "1e300"),
        ] {
            let mut out = Vec::new();
            Value::read(&mut JsonReader::new(text)).expect(text).write(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let written = |text: &str| {
            let mut out = Vec::new();
            Value::read(&mut JsonReader::new(text)).expect("an array").write(&mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(written(&nested(MAX_DEPTH)), nested(MAX_DEPTH));
        assert_eq!(written(&nested(9_999)), format!("{}null{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)));
    }

    #[test]
    fn integers_are_exact_or_none() {
        for (number, expected) in [
            (0.0, Some(0)),
            (-0.0, Some(0)),
            (1.5, None),
            (-7.0, Some(-7)),
            (123_456_789_012_345_680.0, Some(123_456_789_012_345_680)),
            (9_223_372_036_854_775_808.0, None),
            (-9_223_372_036_854_775_808.0, Some(i64::MIN)),
            (f64::INFINITY, None),
        ] {
            assert_eq!(as_integer(number), expected, "{number}");
        }
    }
}
