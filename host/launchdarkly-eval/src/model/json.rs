//! A small JSON reader that keeps what general readers lose: positions, original bytes, and the difference between
//! "absent" and "wrong type".
//!
//! The reader walks text that is known to be valid JSON ([`syntax::check`] or `serde_json` looked at it before).
//! On other text it ends early and never panics.

mod strings;
pub(crate) mod syntax;

pub use self::strings::{has_number_out_of_range, is_deeper_than, normalize as normalize_json};
pub use self::syntax::MAX_DEPTH;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// A position in a JSON text, moving from value to value.
#[derive(Debug, Clone)]
pub struct JsonReader<'a> {
    text: &'a str,
    position: usize,
}

/// The type of a JSON value, named as in error texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

/// A value that does not have the expected type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// The expected type.
    pub(crate) expected: Type,
    /// Whether `null` would have been accepted too.
    pub(crate) nullable: bool,
    /// The type that was found.
    pub(crate) found: Type,
    /// Byte offset of the value.
    pub(crate) position: usize,
}

impl<'a> JsonReader<'a> {
    /// A reader at the start of `text`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    /// The type of the value that comes next; does not consume it.
    pub(crate) fn peek(&mut self) -> Type {
        match self.byte() {
            Some(b'"') => Type::String,
            Some(b'{') => Type::Object,
            Some(b'[') => Type::Array,
            Some(b't' | b'f') => Type::Boolean,
            Some(b'n') | None => Type::Null,
            Some(_) => Type::Number,
        }
    }

    /// Byte offset of the value that comes next.
    pub(crate) fn position(&mut self) -> usize {
        self.byte();
        self.position
    }

    /// Consumes the next value if it is `null`.
    pub(crate) fn null(&mut self) -> bool {
        let null = self.peek() == Type::Null;
        if null {
            self.skip();
        }
        null
    }

    /// Reads a value that may be `null`, which is returned as `None`.
    pub(crate) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Mismatch>,
    ) -> Result<Option<T>, Mismatch> {
        if self.null() {
            return Ok(None);
        }
        read(self).map(Some).map_err(Mismatch::or_null)
    }

    /// Reads a string.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Mismatch> {
        self.expect(Type::String)?;
        let range = self.skip();
        Ok(strings::unquote(&self.text[range]))
    }

    /// Reads a boolean.
    pub fn boolean(&mut self) -> Result<bool, Mismatch> {
        self.expect(Type::Boolean)?;
        let range = self.skip();
        Ok(&self.text[range] == "true")
    }

    /// Reads a number as a 64-bit float; numbers out of range are infinite.
    pub fn number(&mut self) -> Result<f64, Mismatch> {
        self.expect(Type::Number)?;
        let range = self.skip();
        Ok(self.text[range].parse().unwrap_or(0.0))
    }

    /// Reads a number and drops its fraction.
    pub fn integer(&mut self) -> Result<i64, Mismatch> {
        #[expect(clippy::cast_possible_truncation, reason = "dropping the fraction is the rule; the cast saturates")]
        self.number().map(|number| number as i64)
    }

    /// Reads an object: `visit` gets each property's name, with the reader at its value, which it must consume.
    pub fn object<E: From<Mismatch>>(
        &mut self,
        mut visit: impl FnMut(&str, &mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect(Type::Object)?;
        self.position += 1;
        while self.byte() == Some(b'"') {
            let range = self.skip();
            let name = strings::unquote(&self.text[range]);
            self.punctuation(b':');
            visit(&name, self)?;
            self.punctuation(b',');
        }
        self.punctuation(b'}');
        Ok(())
    }

    /// Reads an array: `visit` is called with the reader at each element, which it must consume.
    pub(crate) fn array<E: From<Mismatch>>(
        &mut self,
        mut visit: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect(Type::Array)?;
        self.position += 1;
        while !matches!(self.byte(), None | Some(b']')) {
            visit(self)?;
            self.punctuation(b',');
        }
        self.punctuation(b']');
        Ok(())
    }

    /// Consumes the next value of any type and returns its range in the text.
    pub fn skip(&mut self) -> Range<usize> {
        let kind = self.peek();
        let start = self.position;
        let bytes = self.text.as_bytes();
        self.position = match kind {
            Type::String => strings::end(bytes, start),
            Type::Array | Type::Object => strings::end_of_nested(bytes, start),
            _ => end_of_word(bytes, start),
        };
        start..self.position
    }

    fn expect(&mut self, expected: Type) -> Result<(), Mismatch> {
        let found = self.peek();
        if found == expected {
            return Ok(());
        }
        Err(Mismatch { expected, nullable: false, found, position: self.position })
    }

    /// The next byte that is not white space.
    fn byte(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.position..];
        let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count();
        self.position += blank;
        rest.get(blank).copied()
    }

    fn punctuation(&mut self, byte: u8) {
        if self.byte() == Some(byte) {
            self.position += 1;
        }
    }
}

impl Mismatch {
    fn or_null(self) -> Self {
        Self { nullable: true, ..self }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let null = if self.nullable { " or null" } else { "" };
        write!(f, "expected {}{null}, got {} at position {}", self.expected, self.found, self.position)
    }
}

impl Type {
    /// Its name in error texts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The end of a number or literal; at least one character is taken, so that a reader of invalid text moves on.
fn end_of_word(bytes: &[u8], start: usize) -> usize {
    let stop = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b':' | b'"' | b'[' | b'{') || byte.is_ascii_whitespace();
    let length = bytes[start..].iter().position(stop).unwrap_or(bytes.len() - start);
    if length > 0 || start == bytes.len() { start + length } else { start + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values_with_their_ranges() {
        let mut reader = JsonReader::new(r#" { "a" : [1, "x\u00e9", null] , "b" : {"c":[[]]}, "d": true } "#);
        let mut seen = Vec::new();
        reader
            .object(|name, reader| {
                let kind = reader.peek();
                let range = reader.skip();
                seen.push((name.to_owned(), kind, reader.text[range].to_owned()));
                Ok::<_, Mismatch>(())
            })
            .expect("an object");
        assert_eq!(
            seen,
            [
                ("a".to_owned(), Type::Array, r#"[1, "x\u00e9", null]"#.to_owned()),
                ("b".to_owned(), Type::Object, r#"{"c":[[]]}"#.to_owned()),
                ("d".to_owned(), Type::Boolean, "true".to_owned()),
            ]
        );
    }

    #[test]
    fn a_wrong_type_is_named_with_its_position() {
        let error = JsonReader::new("  3").string().expect_err("a number");
        assert_eq!(error.to_string(), "expected string, got number at position 2");
        let error = JsonReader::new("[]").optional(JsonReader::boolean).expect_err("an array");
        assert_eq!(error.to_string(), "expected boolean or null, got array at position 0");
    }

    #[test]
    fn integers_lose_their_fraction_and_saturate() {
        for (text, expected) in [("33333.9", 33333), ("1.0", 1), ("-1.9", -1), ("1e3", 1000), ("1e99", i64::MAX)] {
            assert_eq!(JsonReader::new(text).integer(), Ok(expected), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_always_ends(text in "\\PC*|[\\[\\]{}\",:\\\\ntf0-9 u]*") {
            let mut reader = JsonReader::new(&text);
            let _ = reader.clone().array(|reader| { reader.skip(); Ok::<_, Mismatch>(()) });
            let _ = reader.clone().object(|_, reader| { reader.skip(); Ok::<_, Mismatch>(()) });
            let _ = reader.string();
        }
    }
}
