//! Targets of one environment: polled from upstream, and learnt from SDKs that present themselves.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::Target;

/// Targets learnt from SDKs that are remembered. Anybody with a client key can present any number.
const MAX_LEARNT: usize = 100_000;

/// Known targets.
#[derive(Default)]
pub(crate) struct Targets(Mutex<Known>);

#[derive(Default)]
struct Known {
    polled: HashMap<String, Arc<Target>>,
    learnt: HashMap<String, Arc<Target>>,
    /// Learnt ones in order of arrival, to forget the oldest.
    order: VecDeque<String>,
}

impl Targets {
    /// What is known of a target: what an SDK said of it last, or else what upstream lists.
    pub(crate) fn find(&self, identifier: &str) -> Option<Arc<Target>> {
        let known = self.lock();
        known.learnt.get(identifier).or_else(|| known.polled.get(identifier)).cloned()
    }

    /// Remembers what an SDK says of itself; the oldest is forgotten when there are too many.
    pub(crate) fn learn(&self, target: Target) {
        let mut known = self.lock();
        let identifier = target.identifier.clone();
        if known.learnt.insert(identifier.clone(), Arc::new(target)).is_none() {
            known.order.push_back(identifier);
            if known.order.len() > MAX_LEARNT
                && let Some(oldest) = known.order.pop_front()
            {
                known.learnt.remove(&oldest);
            }
        }
    }

    /// Replaces what upstream lists. What it lists is newer than what SDKs said before; an empty list changes nothing.
    pub(crate) fn polled(&self, targets: Vec<Target>) {
        if targets.is_empty() {
            return;
        }
        let mut known = self.lock();
        for target in &targets {
            // Its place in the order stays; nothing is forgotten twice.
            known.learnt.remove(&target.identifier);
        }
        known.polled = targets.into_iter().map(|it| (it.identifier.clone(), Arc::new(it))).collect();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(identifier: &str, name: &str) -> Target {
        Target { name: name.into(), ..Target::unknown(identifier) }
    }

    fn name(targets: &Targets, identifier: &str) -> Option<String> {
        targets.find(identifier).map(|it| it.name.clone())
    }

    #[test]
    fn the_newest_word_counts() {
        let targets = Targets::default();
        targets.learn(target("a", "learnt"));
        targets.learn(target("b", "learnt"));
        targets.polled(vec![target("a", "polled")]);
        assert_eq!(name(&targets, "a").as_deref(), Some("polled"));
        assert_eq!(name(&targets, "b").as_deref(), Some("learnt"), "not in the list, and still known");
        targets.learn(target("a", "again"));
        assert_eq!(name(&targets, "a").as_deref(), Some("again"));
        targets.polled(Vec::new());
        assert_eq!(name(&targets, "a").as_deref(), Some("again"), "an empty list changes nothing");
    }

    #[test]
    fn callers_cannot_make_it_grow_without_end() {
        let targets = Targets::default();
        for number in 0..=MAX_LEARNT {
            targets.learn(Target::unknown(&number.to_string()));
        }
        assert!(targets.find("0").is_none());
        assert!(targets.find(&MAX_LEARNT.to_string()).is_some());
    }
}
