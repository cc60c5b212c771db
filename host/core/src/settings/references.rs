//! References to secrets: `{ env = "NAME" }` and `{ file = "path" }`.

use std::io::Read;

use serde_json::Value;

use crate::secret::Secret;

/// Maximum size of a secret file. Larger files are rejected: they cannot be keys.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// A resolved reference.
pub(super) enum Reference {
    /// A secret, without surrounding white space.
    Text(Secret),
    /// Only white space, so the key counts as not set. Names the variable or file.
    Empty(String),
    /// An error message, without the content.
    Unusable(String),
}

/// Resolves a reference; returns `None` if the value is not a reference. `lookup` returns the content of a variable.
pub(super) fn resolve(value: &Value, lookup: &dyn Fn(&str) -> Option<String>) -> Option<Reference> {
    let table = value.as_object().filter(|it| it.len() == 1)?;
    let (kind, name) = table.iter().next()?;
    let name = name.as_str()?;
    let (what, text) = match kind.as_str() {
        "env" if name.trim().is_empty() => ("the name of the variable".to_owned(), Ok(String::new())),
        "env" => {
            (format!("variable `{name}`"), lookup(name).ok_or_else(|| format!("the variable `{name}` is not set")))
        }
        "file" if name.trim().is_empty() => ("the name of the file".to_owned(), Ok(String::new())),
        "file" => {
            let unreadable = |error| format!("the file `{name}` cannot be read: {error}");
            (format!("file `{name}`"), read(name).map_err(unreadable))
        }
        _ => return None,
    };
    Some(match text {
        Ok(text) if text.trim().is_empty() => Reference::Empty(what),
        Ok(text) => Reference::Text(Secret::new(text.trim())),
        Err(problem) => Reference::Unusable(problem),
    })
}

/// Reads a file with a secret.
///
/// # Errors
/// When the file cannot be read, or is larger than a secret can be.
pub(super) fn read(file: &str) -> std::io::Result<String> {
    let mut text = String::new();
    crate::input_file::open(file)?.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "larger than any secret (64 KiB)"));
    }
    Ok(text)
}
