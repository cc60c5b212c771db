//! Equal texts as one allocation.
//!
//! The environments of a project have the same flags, so that their keys would be in memory once per environment.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

/// Number of texts below which unused ones are not looked for.
const FEW: usize = 1024;

static TEXTS: LazyLock<Mutex<SharedTexts>> = LazyLock::new(Mutex::default);

/// Texts in use, and some that are not any more.
#[derive(Default)]
struct SharedTexts {
    all: HashSet<Arc<str>>,
    /// Number of texts at which unused ones are removed.
    limit: usize,
}

/// Returns the allocation of `text` that others use, or a new one for all that follow. It is freed some time after its last
/// use.
#[must_use]
pub fn shared_text(text: &str) -> Arc<str> {
    TEXTS.lock().get(text)
}

impl SharedTexts {
    fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.all.get(text) {
            return Arc::clone(known);
        }
        if self.all.len() >= self.limit {
            self.all.retain(|it| Arc::strong_count(it) > 1);
            self.all.shrink_to_fit();
            self.limit = (2 * self.all.len()).max(FEW);
        }
        let text: Arc<str> = text.into();
        self.all.insert(Arc::clone(&text));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_allocation() {
        assert!(Arc::ptr_eq(&shared_text("some key"), &shared_text("some key")));
        assert!(!Arc::ptr_eq(&shared_text("some key"), &shared_text("some other key")));
    }

    #[test]
    fn unused_texts_are_freed_and_used_ones_stay() {
        let mut texts = SharedTexts::default();
        let used: Vec<_> = (0..FEW).map(|it| texts.get(&format!("used {it}"))).collect();
        for number in 0..10 * FEW {
            drop(texts.get(&format!("unused {number}")));
        }
        assert!(texts.all.len() <= 2 * FEW, "{}", texts.all.len());
        assert!(used.iter().all(|it| Arc::ptr_eq(it, &texts.get(it))));
    }
}
