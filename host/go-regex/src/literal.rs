//! Literal characters of a translated pattern.

/// Writes a character so that it means itself, inside and outside of classes.
pub(crate) fn push_literal(character: char, out: &mut String) {
    if character.is_alphanumeric() || (!character.is_ascii() && !character.is_whitespace()) {
        out.push(character);
    } else {
        out.push_str(&format!("\\x{{{:X}}}", u32::from(character)));
    }
}
