//! Changes in entries of the log: `[["key","text"],["removed",null]]`.

use std::sync::Arc;

use crate::fleet::Entry;

/// Longest message; what is longer is read from the content.
const MAX_MESSAGE: usize = 64 * 1024;

/// The text of changes; empty if they have to be read.
pub(super) fn message(changes: &[Entry]) -> String {
    let size: usize = changes.iter().map(|(key, text)| key.len() + text.as_ref().map_or(0, |it| it.len())).sum();
    if size > MAX_MESSAGE {
        return String::new();
    }
    let changes: Vec<_> = changes.iter().map(|(key, text)| (&**key, text.as_deref())).collect();
    // Texts can always be encoded.
    serde_json::to_string(&changes).unwrap_or_default()
}

/// Returns the changes of a message; `None` if they have to be read, which is also so for a message of another form.
pub(super) fn entries_of_message(message: &[u8]) -> Option<Vec<Entry>> {
    let changes: Vec<(String, Option<String>)> = serde_json::from_slice(message).ok()?;
    Some(changes.into_iter().map(|(key, text)| (Arc::from(key), text.map(Arc::from))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_were_written() {
        let changes: Vec<Entry> = vec![("a".into(), Some("{\"x\":\"\\u0001é\"}".into())), ("b\n".into(), None)];
        assert_eq!(entries_of_message(message(&changes).as_bytes()), Some(changes));
        assert_eq!(entries_of_message(message(&[]).as_bytes()), Some(vec![]));
    }

    #[test]
    fn what_is_too_long_or_of_another_form_has_to_be_read() {
        let long: Vec<Entry> = vec![("a".into(), Some("x".repeat(MAX_MESSAGE).into()))];
        assert_eq!(message(&long), "");
        for text in ["", "{}", "[1]", "[[\"a\"]]", "[[\"a\",1]]", "\u{0}"] {
            assert_eq!(entries_of_message(text.as_bytes()), None, "{text:?}");
        }
    }
}
