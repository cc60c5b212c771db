//! Secrets that stand elsewhere: `{ env = "NAME" }` and `{ file = "path" }`.

use std::io::Read;

use serde_json::Value;

use crate::secret::Secret;

/// Largest secret file that is read. Larger ones are refused: they are certainly no key.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// What a reference leads to.
pub(super) enum Reference {
    /// A secret, without the white space around it.
    Text(Secret),
    /// Nothing but white space, so the key counts as not set. Names variable or file.
    Empty(String),
    /// An error, without the content.
    Unusable(String),
}

/// Follows a reference; `None` if the value is none. `lookup` gives the content of a variable.
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

fn read(file: &str) -> std::io::Result<String> {
    let mut text = String::new();
    crate::input_file::open(file)?.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "larger than any secret (64 KiB)"));
    }
    Ok(text)
}
