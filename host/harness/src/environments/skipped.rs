//! The items of the newest data that cannot be read, for operators.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::{Mutex, MutexGuard};
use yardarm_core::status::{ErrorKind, Status};

use crate::data::items::Domain;
use crate::data::received::Unreadable;

/// Log lines per change of the skipped items; the rest is counted.
const MAX_LINES: usize = 10;

/// The items that are skipped at present.
#[derive(Debug, Default)]
pub(crate) struct SkippedItems(Mutex<SkippedState>);

#[derive(Debug, Default)]
struct SkippedState {
    /// By kind and identifier, with the problem.
    named: BTreeMap<(Domain, String), String>,
    anonymous: usize,
    /// Problems of items without an identifier that were logged.
    anonymous_problems: BTreeSet<String>,
}

impl SkippedItems {
    /// Returns the number of skipped items.
    pub(crate) fn count(&self) -> usize {
        let state = self.lock();
        state.named.len() + state.anonymous
    }

    /// Replaces the skipped items. New problems are logged once, and become the environment's last error.
    pub(crate) fn replace(&self, status: &Status, all: Vec<Unreadable>) {
        let mut new_problems = Vec::new();
        let (before, after) = {
            let mut guard = self.lock();
            let mut fresh = SkippedState::default();
            for item in all {
                match &item.identifier {
                    Some(identifier) => {
                        let key = (item.domain, identifier.clone());
                        if guard.named.get(&key) != Some(&item.problem) {
                            new_problems.push(item.to_string());
                        }
                        fresh.named.insert(key, item.problem);
                    }
                    None => {
                        fresh.anonymous += 1;
                        let text = item.to_string();
                        if fresh.anonymous_problems.insert(text.clone()) && !guard.anonymous_problems.contains(&text) {
                            new_problems.push(text);
                        }
                    }
                }
            }
            let before = guard.named.len() + guard.anonymous;
            let after = fresh.named.len() + fresh.anonymous;
            *guard = fresh;
            (before, after)
        };
        report(status, &new_problems);
        if before > 0 && after == 0 {
            tracing::info!("all items can be read again");
        }
    }

    /// Adds a skipped item.
    pub(crate) fn add(&self, status: &Status, item: &Unreadable) {
        let Some(identifier) = &item.identifier else { return };
        let before = self.lock().named.insert((item.domain, identifier.clone()), item.problem.clone());
        if before.as_ref() != Some(&item.problem) {
            report(status, &[item.to_string()]);
        }
    }

    /// Removes an item that can be read, or was deleted.
    pub(crate) fn remove(&self, domain: Domain, identifier: &str) {
        self.lock().named.remove(&(domain, identifier.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, SkippedState> {
        self.0.lock()
    }
}

fn report(status: &Status, new_problems: &[String]) {
    for problem in new_problems.iter().take(MAX_LINES) {
        tracing::error!(problem, "item skipped, its last good version is served");
    }
    if new_problems.len() > MAX_LINES {
        tracing::error!(more = new_problems.len() - MAX_LINES, "more items skipped");
    }
    if let Some(first) = new_problems.first() {
        status.interrupted(ErrorKind::InvalidData, first);
        // The connection itself is valid.
        status.message_processed();
    }
}
