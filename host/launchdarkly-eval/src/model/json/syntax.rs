//! Whether a text is JSON, with the error texts of Go's `encoding/json` scanner, which clients of the vendor's relay see.

use thiserror::Error;

use super::strings::fits_float;

/// Deepest nesting that is accepted, as in Go.
pub const MAX_DEPTH: usize = 10_000;

/// Why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SyntaxError {
    /// The text ends inside a value, or is empty.
    #[error("unexpected end of JSON input")]
    UnexpectedEnd,
    /// A character at a position where JSON does not allow it.
    #[error("invalid character {character} {place}")]
    InvalidCharacter {
        /// The character, quoted as Go quotes it.
        character: String,
        /// The place in the grammar.
        place: &'static str,
    },
    /// Arrays and objects are nested too deeply.
    #[error("exceeded max depth")]
    TooDeep,
    /// A number does not fit a 64-bit float.
    #[error("invalid numeric value at position {position}")]
    NumberRange {
        /// Byte offset of the number within the value.
        position: usize,
    },
}

/// Checks that `text` is one JSON value, perhaps with white space around it.
///
/// # Errors
///
/// The first violation, with the text of Go's `encoding/json`.
pub(crate) fn check(text: &[u8]) -> Result<(), SyntaxError> {
    let mut scanner = Scanner { rest: text, misfit: None };
    scanner.significant();
    let length = scanner.rest.len();
    scanner.value()?;
    match (scanner.significant(), scanner.misfit) {
        (Some(_), _) => Err(scanner.invalid("after top-level value")),
        (None, Some(rest)) => Err(SyntaxError::NumberRange { position: length - rest }),
        (None, None) => Ok(()),
    }
}

struct Scanner<'a> {
    rest: &'a [u8],
    /// Bytes left at the first number that does not fit. Go reports it only if everything else is valid.
    misfit: Option<usize>,
}

impl Scanner<'_> {
    /// One value; nesting is kept in a list, not on the stack.
    fn value(&mut self) -> Result<(), SyntaxError> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.significant().ok_or(SyntaxError::UnexpectedEnd)? {
                bracket @ (b'{' | b'[') => {
                    self.advance();
                    open.push(bracket);
                    if open.len() > MAX_DEPTH {
                        return Err(SyntaxError::TooDeep);
                    }
                    let close = if bracket == b'{' { b'}' } else { b']' };
                    if self.significant() != Some(close) {
                        if bracket == b'{' {
                            self.name()?;
                        }
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            if !self.after_value(&mut open)? {
                return Ok(());
            }
        }
    }

    /// What follows a value: closing brackets, then a comma if more is to come. `false` at the end of the outermost.
    fn after_value(&mut self, open: &mut Vec<u8>) -> Result<bool, SyntaxError> {
        while let Some(bracket) = open.last() {
            let (close, place) = match bracket {
                b'{' => (b'}', "after object key:value pair"),
                _ => (b']', "after array element"),
            };
            match self.significant().ok_or(SyntaxError::UnexpectedEnd)? {
                b',' => {
                    self.advance();
                    if *bracket == b'{' {
                        self.name()?;
                    }
                    return Ok(true);
                }
                byte if byte == close => {
                    self.advance();
                    open.pop();
                }
                _ => return Err(self.invalid(place)),
            }
        }
        Ok(false)
    }

    fn name(&mut self) -> Result<(), SyntaxError> {
        match self.significant().ok_or(SyntaxError::UnexpectedEnd)? {
            b'"' => self.string()?,
            _ => return Err(self.invalid("looking for beginning of object key string")),
        }
        match self.significant().ok_or(SyntaxError::UnexpectedEnd)? {
            b':' => self.advance(),
            _ => return Err(self.invalid("after object key")),
        }
        Ok(())
    }

    fn scalar(&mut self) -> Result<(), SyntaxError> {
        match self.peek()? {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal(
                b"true",
                &[
                    "in literal true (expecting 'r')",
                    "in literal true (expecting 'u')",
                    "in literal true (expecting 'e')",
                ],
            ),
            b'f' => self.literal(
                b"false",
                &[
                    "in literal false (expecting 'a')",
                    "in literal false (expecting 'l')",
                    "in literal false (expecting 's')",
                    "in literal false (expecting 'e')",
                ],
            ),
            b'n' => self.literal(
                b"null",
                &[
                    "in literal null (expecting 'u')",
                    "in literal null (expecting 'l')",
                    "in literal null (expecting 'l')",
                ],
            ),
            _ => Err(self.invalid("looking for beginning of value")),
        }
    }

    fn string(&mut self) -> Result<(), SyntaxError> {
        self.advance();
        loop {
            match self.peek()? {
                b'"' => {
                    self.advance();
                    return Ok(());
                }
                b'\\' => {
                    self.advance();
                    self.escape()?;
                }
                0..0x20 => return Err(self.invalid("in string literal")),
                _ => self.advance(),
            }
        }
    }

    fn escape(&mut self) -> Result<(), SyntaxError> {
        match self.peek()? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => self.advance(),
            b'u' => {
                self.advance();
                for _ in 0..4 {
                    if !self.peek()?.is_ascii_hexdigit() {
                        return Err(self.invalid("in \\u hexadecimal character escape"));
                    }
                    self.advance();
                }
            }
            _ => return Err(self.invalid("in string escape code")),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        let from = self.rest;
        self.number_end()?;
        let number = &from[..from.len() - self.rest.len()];
        if self.misfit.is_none() && !fits_float(number) {
            self.misfit = Some(from.len());
        }
        Ok(())
    }

    fn number_end(&mut self) -> Result<(), SyntaxError> {
        if self.peek()? == b'-' {
            self.advance();
        }
        // A leading zero ends the whole part; what follows it is checked by the caller.
        if self.peek()? == b'0' {
            self.advance();
        } else {
            self.digits("in numeric literal")?;
        }
        if self.rest.first() == Some(&b'.') {
            self.advance();
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.rest.first(), Some(b'e' | b'E')) {
            self.advance();
            if matches!(self.peek()?, b'+' | b'-') {
                self.advance();
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    /// At least one digit.
    fn digits(&mut self, place: &'static str) -> Result<(), SyntaxError> {
        if !self.peek()?.is_ascii_digit() {
            return Err(self.invalid(place));
        }
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = &self.rest[count..];
        Ok(())
    }

    fn literal(&mut self, word: &[u8], places: &[&'static str]) -> Result<(), SyntaxError> {
        self.advance();
        for (expected, place) in word[1..].iter().zip(places) {
            if self.peek()? != *expected {
                return Err(self.invalid(place));
            }
            self.advance();
        }
        Ok(())
    }

    /// The next byte that is not white space, with the white space taken.
    fn significant(&mut self) -> Option<u8> {
        let blank = self.rest.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count();
        self.rest = &self.rest[blank..];
        self.rest.first().copied()
    }

    fn peek(&self) -> Result<u8, SyntaxError> {
        self.rest.first().copied().ok_or(SyntaxError::UnexpectedEnd)
    }

    fn advance(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    fn invalid(&self, place: &'static str) -> SyntaxError {
        SyntaxError::InvalidCharacter { character: quote(self.rest.first().copied().unwrap_or_default()), place }
    }
}

/// A byte as Go's `quoteChar` shows it: each byte counts as a Latin-1 character.
fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{:04x}'", u32::from(byte)),
        _ => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests;
