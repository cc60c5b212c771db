//! The grammar of ld-relay's configuration file, that of gcfg: Git's configuration syntax with a few restrictions (U128,
//! U129). A parser from text to assignments with their lines; it knows no section and no name.

/// One header or one assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Name of the section as written.
    pub(super) section: String,
    /// Text between quotation marks in the header, without them.
    pub(super) subsection: Option<String>,
    /// The assignment; `None` for the header itself.
    pub(super) assignment: Option<Assignment>,
    /// Line, from 1.
    pub(super) line: usize,
    /// Column in bytes, from 1.
    pub(super) column: usize,
}

/// A name with its value.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    /// Name of the variable as written.
    pub(super) name: String,
    /// The value without quotation marks and escapes; `None` where there is no `=`.
    pub(super) value: Option<String>,
}

/// A text outside the grammar. The message is that of gcfg and quotes no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) problem: String,
}

/// Values may be secrets, so only the name is shown.
impl std::fmt::Debug for Assignment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assignment").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Parses a whole file.
///
/// # Errors
/// The first place that does not follow the grammar.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Entry>, SyntaxError> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
        error_at(&valid, valid.len(), "illegal UTF-8 encoding")
    })?;
    if let Some(at) = text.find('\0') {
        return Err(error_at(text, at, "illegal character NUL"));
    }
    Scanner { text, at: 0, entries: Vec::new() }.run()
}

struct Scanner<'a> {
    text: &'a str,
    /// Offset of the next character, in bytes.
    at: usize,
    entries: Vec<Entry>,
}

impl Scanner<'_> {
    fn run(mut self) -> Result<Vec<Entry>, SyntaxError> {
        let mut section: Option<(String, Option<String>)> = None;
        loop {
            self.skip_blanks();
            let start = self.at;
            match self.peek() {
                None => return Ok(self.entries),
                Some('\n') => self.at += 1,
                Some(';' | '#') => self.skip_comment(),
                Some('[') => {
                    let header = self.header()?;
                    self.push(start, &header, None);
                    section = Some(header);
                }
                Some(character) if character.is_alphabetic() => {
                    let Some(section) = &section else { return Err(self.error(start, "expected section header")) };
                    let assignment = self.assignment()?;
                    self.push(start, section, Some(assignment));
                }
                Some('=' | ']' | '"') if section.is_some() => {
                    return Err(self.error(start, "expected section header or variable declaration"));
                }
                Some('=' | ']' | '"') => return Err(self.error(start, "expected section header")),
                Some(character) => return Err(self.illegal(start, character)),
            }
        }
    }

    fn push(&mut self, start: usize, section: &(String, Option<String>), assignment: Option<Assignment>) {
        let (line, column) = position(self.text, start);
        let (section, subsection) = section.clone();
        self.entries.push(Entry { section, subsection, assignment, line, column });
    }

    /// Reads `[name]` or `[name "text"]` to the end of its line.
    fn header(&mut self) -> Result<(String, Option<String>), SyntaxError> {
        self.at += 1;
        self.skip_blanks();
        let start = self.at;
        let name = self.identifier();
        if name.is_empty() {
            return Err(self.unexpected(start, "expected section name"));
        }
        self.skip_blanks();
        let mut subsection = None;
        if self.peek() == Some('"') {
            subsection = Some(self.quoted()?);
            if subsection.as_deref() == Some("") {
                return Err(self.error(start, "empty subsection name"));
            }
            self.skip_blanks();
        }
        let close = self.at;
        if self.peek() != Some(']') {
            let expected = match subsection {
                None => "expected subsection name or right bracket",
                Some(_) => "expected right bracket",
            };
            return Err(self.unexpected(close, expected));
        }
        self.at += 1;
        self.end_of_line()?;
        Ok((name, subsection))
    }

    /// Reads `name` or `name = value` to the end of its line.
    fn assignment(&mut self) -> Result<Assignment, SyntaxError> {
        let name = self.identifier();
        self.skip_blanks();
        match self.peek() {
            None | Some('\n' | ';' | '#') => Ok(Assignment { name, value: None }),
            Some('=') => {
                self.at += 1;
                self.skip_blanks();
                Ok(Assignment { name, value: Some(self.value()?) })
            }
            Some(_) => Err(self.unexpected(self.at, "expected '='")),
        }
    }

    /// Reads a text between quotation marks in a header.
    fn quoted(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.next() {
                Some('"') => return Ok(text),
                Some('\\') => match self.next() {
                    Some(character @ ('\\' | '"')) => text.push(character),
                    _ => return Err(self.error(at + 1, "unknown escape sequence")),
                },
                None | Some('\n') => return Err(self.error(start, "string not terminated")),
                Some(character) => text.push(character),
            }
        }
    }

    /// Reads a value up to the end of the line or a comment. Blanks at its end that are not quoted do not count.
    fn value(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        let mut value = String::new();
        let mut length = 0;
        let mut is_quoted = false;
        loop {
            let at = self.at;
            match self.peek() {
                None | Some('\n') if is_quoted => return Err(self.error(start, "string not terminated")),
                None | Some('\n') => break,
                Some(';' | '#') if !is_quoted => break,
                Some(_) => (),
            }
            match self.next() {
                Some('"') => {
                    is_quoted = !is_quoted;
                    length = value.len();
                }
                Some('\\') if is_quoted => {
                    value.push(match self.next() {
                        Some(character @ ('\\' | '"')) => character,
                        Some('n') => '\n',
                        Some('t') => '\t',
                        _ => return Err(self.error(at + 1, "unknown escape sequence")),
                    });
                    length = value.len();
                }
                Some('\\') => {
                    if self.peek() == Some('\r') {
                        self.at += 1;
                    }
                    match self.next() {
                        Some('\n') => (),
                        Some('"') => value.push('"'),
                        _ => {
                            let problem = "unquoted '\\' must be followed by new line or double quote";
                            return Err(self.error(start, problem));
                        }
                    }
                    length = value.len();
                }
                // The line ends of Windows.
                Some('\r') | None => (),
                Some(character) => {
                    value.push(character);
                    if is_quoted || !matches!(character, ' ' | '\t') {
                        length = value.len();
                    }
                }
            }
        }
        value.truncate(length);
        Ok(value)
    }

    /// Checks that nothing but a comment follows on the line.
    fn end_of_line(&mut self) -> Result<(), SyntaxError> {
        self.skip_blanks();
        match self.peek() {
            None | Some('\n' | ';' | '#') => Ok(()),
            Some(_) => Err(self.unexpected(self.at, "expected EOL, EOF, or comment")),
        }
    }

    fn identifier(&mut self) -> String {
        let rest = &self.text[self.at..];
        let is_first = |it: char| it.is_alphabetic();
        let is_part = |it: char| it.is_alphabetic() || it.is_numeric() || it == '-';
        let end = if rest.starts_with(is_first) { rest.find(|it| !is_part(it)).unwrap_or(rest.len()) } else { 0 };
        self.at += end;
        rest[..end].to_owned()
    }

    fn skip_blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
    }

    fn skip_comment(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.find('\n').unwrap_or(rest.len());
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn error(&self, at: usize, problem: &str) -> SyntaxError {
        error_at(self.text, at, problem)
    }

    /// Returns the error for the character at an offset, which is reported by itself if no place allows it.
    fn unexpected(&self, at: usize, expected: &str) -> SyntaxError {
        match self.text[at..].chars().next() {
            Some(it) if !it.is_alphabetic() && !matches!(it, '\n' | ';' | '#' | '[' | ']' | '=' | '"') => {
                self.illegal(at, it)
            }
            _ => self.error(at, expected),
        }
    }

    fn illegal(&self, at: usize, character: char) -> SyntaxError {
        let code = u32::from(character);
        let shown = if character.is_control() { String::new() } else { format!(" '{character}'") };
        self.error(at, &format!("illegal character U+{code:04X}{shown}"))
    }
}

fn error_at(text: &str, at: usize, problem: &str) -> SyntaxError {
    let (line, column) = position(text, at);
    SyntaxError { line, column, problem: problem.to_owned() }
}

/// Returns line and column of an offset, both from 1; the column in bytes, as in gcfg.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let start = before.iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1);
    (before.iter().filter(|it| **it == b'\n').count() + 1, at - start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, Option<String>)> {
        let entries = parse(text.as_bytes()).unwrap();
        entries.into_iter().filter_map(|it| it.assignment).map(|it| (it.name, it.value)).collect()
    }

    #[test]
    fn u128_values_are_quoted_escaped_continued_and_commented() {
        for (written, value) in [
            ("a", "a"),
            ("  a b\t c  ", "a b\t c"),
            ("a ; comment", "a"),
            ("a#comment", "a"),
            ("\"a ; b # c\"", "a ; b # c"),
            ("\"  a  \"  ", "  a  "),
            ("a\"b c\"d", "ab cd"),
            ("\"\\\\ \\\" \\n \\t\"", "\\ \" \n \t"),
            ("\\\"a\\\"", "\"a\""),
            ("a\\\nb", "ab"),
            ("a\\\r\n  b", "a  b"),
            ("a\r", "a"),
            ("", ""),
            ("\"\"", ""),
            ("[x] = y", "[x] = y"),
        ] {
            let text = format!("[Main]\nname = {written}\nlast");
            let expected = vec![("name".to_owned(), Some(value.to_owned())), ("last".to_owned(), None)];
            assert_eq!(values(&text), expected, "{written}");
        }
    }

    #[test]
    fn u128_headers_have_names_and_texts() {
        let text = "\u{feff}; comment\n[main] # comment\n[ Environment\t\"My \\\"Env\\\" \\\\\" ]\r\nä-1=2\n[Empty]";
        let entries = parse(text.as_bytes()).unwrap();
        let shown: Vec<_> =
            entries.iter().map(|it| (it.section.as_str(), it.subsection.as_deref(), it.line, it.column)).collect();
        let own = "My \"Env\" \\";
        let expected = [
            ("main", None, 2, 1),
            ("Environment", Some(own), 3, 1),
            ("Environment", Some(own), 4, 1),
            ("Empty", None, 5, 1),
        ];
        assert_eq!(shown, expected);
        assert_eq!(parse(b""), Ok(Vec::new()));
    }

    #[test]
    fn u128_errors_have_the_texts_and_positions_of_gcfg() {
        for (text, line, column, problem) in [
            ("a = 1", 1, 1, "expected section header"),
            ("[]", 1, 2, "expected section name"),
            ("[a \"\"]", 1, 2, "empty subsection name"),
            ("[a b]", 1, 4, "expected subsection name or right bracket"),
            ("[a \"b\" c]", 1, 8, "expected right bracket"),
            ("[a] b", 1, 5, "expected EOL, EOF, or comment"),
            ("[a]\nb c", 2, 3, "expected '='"),
            ("[a]\n= 1", 2, 1, "expected section header or variable declaration"),
            ("[a]\nb = \"c", 2, 5, "string not terminated"),
            ("[a]\nb = \"c\nd\"", 2, 5, "string not terminated"),
            ("[a \"b", 1, 4, "string not terminated"),
            ("[a]\nb = \"\\q\"", 2, 7, "unknown escape sequence"),
            ("[a]\nb = c:\\d", 2, 5, "unquoted '\\' must be followed by new line or double quote"),
            ("[a]\n@ = 1", 2, 1, "illegal character U+0040 '@'"),
            ("[a]\nb = \0", 2, 5, "illegal character NUL"),
        ] {
            let expected = SyntaxError { line, column, problem: problem.to_owned() };
            assert_eq!(parse(text.as_bytes()), Err(expected), "{text}");
        }
        let error = parse(b"[a]\nb = \xff").unwrap_err();
        assert_eq!((error.line, error.column, error.problem.as_str()), (2, 5, "illegal UTF-8 encoding"));
    }

    proptest::proptest! {
        #[test]
        fn every_quoted_value_is_read_back(value in "[^\0\r\u{feff}]*") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let read = values(&format!("[a]\nb = \"{escaped}\""));
            proptest::prop_assert_eq!(read, vec![("b".to_owned(), Some(value))]);
        }

        #[test]
        fn no_text_causes_a_panic(text in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&text);
        }
    }
}
