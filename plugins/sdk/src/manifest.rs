//! The manifest of a plugin: a JSON text that is put together at compile time and becomes a section of the component.

use crate::export::Exported;

/// A text to which bytes are appended, or only counted if there is no room.
struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    const fn raw(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            self = self.byte(bytes[at]);
            at += 1;
        }
        self
    }

    /// Appends a text as a JSON string.
    const fn string(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        self = self.byte(b'"');
        let mut at = 0;
        while at < bytes.len() {
            self = match bytes[at] {
                b'"' | b'\\' => self.byte(b'\\').byte(bytes[at]),
                // Control characters are of no use in a description.
                0..=0x1f => self.byte(b' '),
                byte => self.byte(byte),
            };
            at += 1;
        }
        self.byte(b'"')
    }

    /// Appends the properties of a JSON object, each after a comma.
    const fn properties(mut self, object: &str) -> Self {
        let bytes = object.as_bytes();
        let (mut start, mut end) = (0, bytes.len());
        while start < end && bytes[start].is_ascii_whitespace() {
            start += 1;
        }
        while end > start && bytes[end - 1].is_ascii_whitespace() {
            end -= 1;
        }
        assert!(end - start >= 2 && bytes[start] == b'{' && bytes[end - 1] == b'}', "`manifest` must be a JSON object");
        start += 1;
        end -= 1;
        while start < end && bytes[start].is_ascii_whitespace() {
            start += 1;
        }
        if start < end {
            self = self.byte(b',');
        }
        while start < end {
            self = self.byte(bytes[start]);
            start += 1;
        }
        self
    }

    const fn byte(mut self, byte: u8) -> Self {
        if self.length < N {
            self.bytes[self.length] = byte;
        }
        self.length += 1;
        self
    }
}

const fn text<P: Exported, const N: usize>() -> Text<N> {
    Text { bytes: [0; N], length: 0 }
        .raw("{\"name\":")
        .string(P::NAME)
        .raw(",\"version\":")
        .string(P::VERSION)
        .raw(",\"about\":")
        .string(P::ABOUT)
        .raw(concat!(",\"sdk\":{\"language\":\"rust\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}"))
        .properties(P::MANIFEST)
        .raw("}")
}

/// Returns the number of bytes of the manifest.
#[must_use]
pub const fn length<P: Exported>() -> usize {
    text::<P, 0>().length
}

/// Returns the manifest, whose length must be `N`.
#[must_use]
pub const fn bytes<P: Exported, const N: usize>() -> [u8; N] {
    text::<P, N>().bytes
}
