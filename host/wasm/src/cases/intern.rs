//! Texts of cases in the place of identifiers that the host knows at compile time, such as routes.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// Maximum number of different texts in one process, which are never freed. The cases in the manifest of one component add
/// at most two for each case, so that it takes many components to leave no room for those of others.
const MOST: usize = 10_000;
/// Maximum length of a text in bytes.
const LONGEST: usize = 64;

static TEXTS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Returns an equal text that lives as long as the process; `None` if it is too long, or there are too many others.
pub(super) fn intern(text: &str) -> Option<&'static str> {
    let mut texts = TEXTS.lock();
    if let Some(known) = texts.get(text) {
        return Some(known);
    }
    if text.len() > LONGEST || texts.len() >= MOST {
        return None;
    }
    let text: &'static str = Box::leak(text.into());
    texts.insert(text);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one() {
        let (first, second) = (intern("a.route").unwrap(), intern(&String::from("a.route")).unwrap());
        assert!(std::ptr::eq(first, second));
        assert_eq!(intern(&"x".repeat(LONGEST + 1)), None);
    }
}
