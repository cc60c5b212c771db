//! The sections of a component at its top level, as bytes.

use std::ops::Range;

use wasmparser::{BinaryReader, BinaryReaderError};

/// Size of the magic number and the version at the beginning of a component.
const HEADER: usize = 8;
/// ID of custom sections.
const CUSTOM: u8 = 0;

/// A custom section.
pub(crate) struct CustomSection {
    /// Where it is in the component, with its header.
    pub(crate) place: Range<usize>,
    /// Where its content is.
    pub(crate) content: Range<usize>,
}

/// Returns the custom sections of a component that have this name; those of what is nested in it do not count.
///
/// # Errors
/// When the component is damaged.
pub(crate) fn custom_sections(component: &[u8], name: &str) -> Result<Vec<CustomSection>, BinaryReaderError> {
    let mut found = Vec::new();
    let mut reader = BinaryReader::new(component, 0);
    reader.read_bytes(HEADER)?;
    while !reader.eof() {
        let start = reader.original_position();
        let id = reader.read_u8()?;
        let size = reader.read_var_u32()?;
        let first = reader.original_position();
        let bytes = reader.read_bytes(size as usize)?;
        let end = reader.original_position();
        if id == CUSTOM {
            let mut content = BinaryReader::new(bytes, first);
            if content.read_string()? == name {
                found.push(CustomSection { place: start..end, content: content.original_position()..end });
            }
        }
    }
    Ok(found)
}

/// Copies a component without the custom sections of this name.
///
/// # Errors
/// When the component is damaged.
pub(crate) fn without(component: &[u8], name: &str) -> Result<Vec<u8>, BinaryReaderError> {
    let (mut copy, mut at) = (Vec::with_capacity(component.len()), 0);
    for section in custom_sections(component, name)? {
        copy.extend_from_slice(&component[at..section.place.start]);
        at = section.place.end;
    }
    copy.extend_from_slice(&component[at..]);
    Ok(copy)
}

/// Adds a custom section at the end of a component.
pub(crate) fn append(component: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut section = leb128(name.len());
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(content);
    component.push(CUSTOM);
    component.extend(leb128(section.len()));
    component.extend(section);
}

/// Encodes a length as an unsigned LEB128 number.
fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_encoded_as_leb128() {
        for (value, bytes) in [(0, &[0][..]), (127, &[0x7f]), (128, &[0x80, 1]), (300_000, &[0xe0, 0xa7, 0x12])] {
            assert_eq!(leb128(value), bytes);
        }
    }

    #[test]
    fn a_section_is_found_and_removed_wherever_it_is() {
        let empty = b"\0asm\x0d\0\x01\0".to_vec();
        let mut component = empty.clone();
        for (name, content) in [("a", "first"), ("b", "second"), ("a", "third")] {
            append(&mut component, name, content.as_bytes());
        }
        let found = custom_sections(&component, "a").unwrap();
        let contents: Vec<_> = found.iter().map(|it| &component[it.content.clone()]).collect();
        assert_eq!(contents, [b"first", b"third"]);
        let mut only_b = empty;
        append(&mut only_b, "b", b"second");
        assert_eq!(without(&component, "a").unwrap(), only_b);
        assert!(custom_sections(&component[..component.len() - 1], "a").is_err());
    }
}
