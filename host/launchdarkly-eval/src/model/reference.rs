//! Attribute references: how a flag names a part of a context.

use thiserror::Error;

/// The path to an attribute or to a value inside one.
///
/// How the text is read depends on its neighbour: beside a context kind it is a reference in which `/` leads into
/// objects, without one it is the plain name of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    parts: Box<[Box<str>]>,
}

/// Why a text is not an attribute reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// No text, or `/` alone.
    #[error("attribute reference cannot be empty")]
    Empty,
    /// A part between slashes is empty.
    #[error("attribute reference contained a double slash or a trailing slash")]
    EmptyPart,
    /// `~` stands for `/` or `~` only as `~1` or `~0`.
    #[error("attribute reference contained an escape character (~) that was not followed by 0 or 1")]
    Escape,
}

impl Reference {
    /// Reads `text` as a reference.
    ///
    /// # Errors
    ///
    /// When the text is empty, has an empty part or a bad escape.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let Some(path) = text.strip_prefix('/') else {
            return Self::literal(text);
        };
        if path.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let parts = path.split('/').map(unescape).collect::<Result<_, _>>()?;
        Ok(Self { parts })
    }

    /// Takes `name` as the plain name of an attribute.
    ///
    /// # Errors
    ///
    /// When the name is empty.
    pub fn literal(name: &str) -> Result<Self, ReferenceError> {
        if name.is_empty() {
            return Err(ReferenceError::Empty);
        }
        Ok(Self { parts: Box::new([name.into()]) })
    }

    /// Reads `text` beside `context_kind`: a reference if there is a kind, a plain name if it is empty.
    ///
    /// # Errors
    ///
    /// As [`Reference::parse`] and [`Reference::literal`].
    pub fn beside(context_kind: &str, text: &str) -> Result<Self, ReferenceError> {
        if context_kind.is_empty() { Self::literal(text) } else { Self::parse(text) }
    }

    /// The name of the attribute, then the properties on the way down; never empty.
    #[must_use]
    pub fn parts(&self) -> &[Box<str>] {
        &self.parts
    }
}

fn unescape(part: &str) -> Result<Box<str>, ReferenceError> {
    if part.is_empty() {
        return Err(ReferenceError::EmptyPart);
    }
    let mut pieces = part.split('~');
    let mut text = String::from(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (character, rest) = match piece.as_bytes().first() {
            Some(b'0') => ('~', &piece[1..]),
            Some(b'1') => ('/', &piece[1..]),
            _ => return Err(ReferenceError::Escape),
        };
        text.push(character);
        text.push_str(rest);
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(reference: &Reference) -> Vec<&str> {
        reference.parts().iter().map(|part| &**part).collect()
    }

    #[test]
    fn paths_are_split_and_unescaped() {
        for (text, expected) in [
            ("a", vec!["a"]),
            ("a/b", vec!["a/b"]),
            ("a~0b", vec!["a~0b"]),
            ("/a", vec!["a"]),
            ("/a/b", vec!["a", "b"]),
            ("/a~1b/~0", vec!["a/b", "~"]),
            ("/~01", vec!["~1"]),
        ] {
            assert_eq!(parts(&Reference::parse(text).expect(text)), expected, "{text}");
        }
    }

    #[test]
    fn bad_paths_are_refused() {
        for (text, expected) in [
            ("", ReferenceError::Empty),
            ("/", ReferenceError::Empty),
            ("//", ReferenceError::EmptyPart),
            ("/a/", ReferenceError::EmptyPart),
            ("/a//b", ReferenceError::EmptyPart),
            ("/a~", ReferenceError::Escape),
            ("/a~2", ReferenceError::Escape),
        ] {
            assert_eq!(Reference::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn without_a_kind_nothing_is_special() {
        assert_eq!(parts(&Reference::beside("", "/a/b").expect("a name")), ["/a/b"]);
        assert_eq!(parts(&Reference::beside("org", "/a/b").expect("a path")), ["a", "b"]);
        assert_eq!(Reference::beside("", ""), Err(ReferenceError::Empty));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[/~01a-cé]{0,12}|\\PC*") {
            let _ = Reference::parse(&text);
        }
    }
}
