//! Text of guests, made fit for logs and status.

/// Maximum length of a line in bytes; the rest is cut off.
const LONGEST_LINE: usize = 2 * 1024;

/// Sanitizes a text of a guest for logs and status: no control characters, bounded length.
pub(crate) fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(LONGEST_LINE));
    for character in text.chars() {
        if line.len() >= LONGEST_LINE {
            line.push('…');
            break;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_forge_another() {
        assert_eq!(clean("a\nb\x1b[31m"), "a\\nb\\u{1b}[31m");
        assert!(clean(&"é".repeat(5_000)).len() <= LONGEST_LINE + 8);
    }
}
