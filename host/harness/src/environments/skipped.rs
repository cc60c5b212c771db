//! Items of the newest data that cannot be read, for operators.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use yardarm_core::EnvironmentLabel;
use yardarm_core::status::{ErrorKind, Status};

use crate::data::items::Domain;
use crate::data::received::Unreadable;

/// Lines of log per change of what is skipped; the rest is a number.
const MAX_LINES: usize = 10;

/// Items that are skipped at present.
#[derive(Debug, Default)]
pub(crate) struct SkippedItems(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By what they are called, with what is wrong.
    named: BTreeMap<(Domain, String), String>,
    anonymous: usize,
    /// What was logged of those without a name.
    anonymous_problems: BTreeSet<String>,
}

impl SkippedItems {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        let known = self.lock();
        known.named.len() + known.anonymous
    }

    /// Replaces what is skipped; what is new is logged once, and shown as the environment's last error.
    pub(crate) fn replace(&self, label: &EnvironmentLabel, status: &Status, all: Vec<Unreadable>) {
        let mut news = Vec::new();
        let (before, after) = {
            let mut guard = self.lock();
            let mut fresh = Known::default();
            for item in all {
                match &item.identifier {
                    Some(identifier) => {
                        let key = (item.domain, identifier.clone());
                        if guard.named.get(&key) != Some(&item.problem) {
                            news.push(item.to_string());
                        }
                        fresh.named.insert(key, item.problem);
                    }
                    None => {
                        fresh.anonymous += 1;
                        let text = item.to_string();
                        if fresh.anonymous_problems.insert(text.clone()) && !guard.anonymous_problems.contains(&text) {
                            news.push(text);
                        }
                    }
                }
            }
            let before = guard.named.len() + guard.anonymous;
            let after = fresh.named.len() + fresh.anonymous;
            *guard = fresh;
            (before, after)
        };
        report(label, status, &news);
        if before > 0 && after == 0 {
            tracing::info!(environment = %label, "all items can be read again");
        }
    }

    /// One more item is skipped.
    pub(crate) fn add(&self, label: &EnvironmentLabel, status: &Status, item: &Unreadable) {
        let Some(identifier) = &item.identifier else { return };
        let before = self.lock().named.insert((item.domain, identifier.clone()), item.problem.clone());
        if before.as_ref() != Some(&item.problem) {
            report(label, status, &[item.to_string()]);
        }
    }

    /// An item can be read, or is gone.
    pub(crate) fn remove(&self, domain: Domain, identifier: &str) {
        self.lock().named.remove(&(domain, identifier.to_owned()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(label: &EnvironmentLabel, status: &Status, news: &[String]) {
    for problem in news.iter().take(MAX_LINES) {
        tracing::error!(environment = %label, problem, "item skipped, its last good version is served");
    }
    if news.len() > MAX_LINES {
        tracing::error!(environment = %label, more = news.len() - MAX_LINES, "more items skipped");
    }
    if let Some(first) = news.first() {
        status.interrupted(ErrorKind::InvalidData, first);
        // The connection itself is fine.
        status.message_processed();
    }
}
