//! Targets of one environment: polled from upstream, and learnt from SDKs that present themselves.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::Target;

/// Targets learnt from SDKs that are remembered. Anybody with a client key can present any number.
const MAX_LEARNT: usize = 100_000;
/// Bytes that they may take, about; anybody can also make them long.
const MAX_LEARNT_BYTES: usize = 64 << 20;

/// Known targets.
#[derive(Default)]
pub(crate) struct Targets {
    known: Mutex<Known>,
    are_polled: AtomicBool,
}

#[derive(Default)]
struct Known {
    polled: HashMap<String, Arc<Target>>,
    learnt: HashMap<String, Learnt>,
    /// Learnt ones in order of arrival, to forget the oldest.
    order: VecDeque<String>,
    learnt_bytes: usize,
}

struct Learnt {
    target: Arc<Target>,
    bytes: usize,
}

impl Targets {
    /// What is known of a target: what an SDK said of it last, or else what upstream lists.
    pub(crate) fn find(&self, identifier: &str) -> Option<Arc<Target>> {
        let known = self.lock();
        known.learnt.get(identifier).map(|it| &it.target).or_else(|| known.polled.get(identifier)).cloned()
    }

    /// Remembers what an SDK says of itself, which took `bytes` to say; the oldest are forgotten when it is too much.
    pub(crate) fn learn(&self, target: Target, bytes: usize) {
        let mut known = self.lock();
        let identifier = target.identifier.clone();
        // The overhead of an entry counts too.
        let bytes = bytes + 2 * identifier.len() + size_of::<Target>();
        known.learnt_bytes += bytes;
        match known.learnt.insert(identifier.clone(), Learnt { target: Arc::new(target), bytes }) {
            Some(before) => known.learnt_bytes -= before.bytes,
            None => known.order.push_back(identifier),
        }
        while known.order.len() > MAX_LEARNT || known.learnt_bytes > MAX_LEARNT_BYTES {
            let Some(oldest) = known.order.pop_front() else { break };
            known.forget(&oldest);
        }
    }

    /// Replaces what upstream lists. What it lists is newer than what SDKs said before; an empty list changes nothing.
    pub(crate) fn polled(&self, targets: Vec<Target>) {
        if targets.is_empty() {
            return;
        }
        let mut guard = self.lock();
        let known = &mut *guard;
        for target in &targets {
            known.forget(&target.identifier);
        }
        known.order.retain(|identifier| known.learnt.contains_key(identifier));
        known.polled = targets.into_iter().map(|it| (it.identifier.clone(), Arc::new(it))).collect();
    }

    /// Upstream has listed them, be there any or not.
    pub(crate) fn were_polled(&self) {
        self.are_polled.store(true, Ordering::Release);
    }

    /// Whether upstream has ever listed them to this process.
    pub(crate) fn are_polled(&self) -> bool {
        self.are_polled.load(Ordering::Acquire)
    }

    /// What upstream lists, in order of identifier.
    pub(crate) fn listed(&self) -> Vec<Arc<Target>> {
        let mut all: Vec<_> = self.lock().polled.values().cloned().collect();
        all.sort_by(|left, right| left.identifier.cmp(&right.identifier));
        all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Forgets a learnt target, but not its place in the order.
    fn forget(&mut self, identifier: &str) {
        if let Some(gone) = self.learnt.remove(identifier) {
            self.learnt_bytes -= gone.bytes;
        }
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
        targets.learn(target("a", "learnt"), 10);
        targets.learn(target("b", "learnt"), 10);
        targets.polled(vec![target("a", "polled")]);
        assert_eq!(name(&targets, "a").as_deref(), Some("polled"));
        assert_eq!(name(&targets, "b").as_deref(), Some("learnt"), "not in the list, and still known");
        targets.learn(target("a", "again"), 10);
        assert_eq!(name(&targets, "a").as_deref(), Some("again"));
        targets.polled(Vec::new());
        assert_eq!(name(&targets, "a").as_deref(), Some("again"), "an empty list changes nothing");
    }

    #[test]
    fn callers_cannot_make_it_grow_without_end() {
        let targets = Targets::default();
        for number in 0..=MAX_LEARNT {
            targets.learn(Target::unknown(&number.to_string()), 10);
        }
        assert!(targets.find("0").is_none());
        assert!(targets.find(&MAX_LEARNT.to_string()).is_some());

        let targets = Targets::default();
        for name in ["a", "b", "c"] {
            targets.learn(Target::unknown(name), MAX_LEARNT_BYTES / 2 - 1000);
        }
        assert!(targets.find("a").is_none(), "long ones count for what they are");
        assert!(targets.find("b").is_some() && targets.find("c").is_some());
    }

    #[test]
    fn a_target_that_was_polled_in_between_is_not_forgotten_too_early() {
        let targets = Targets::default();
        targets.learn(target("a", "learnt"), 10);
        targets.polled(vec![target("a", "polled")]);
        for number in 1..MAX_LEARNT {
            targets.learn(Target::unknown(&number.to_string()), 10);
        }
        targets.learn(target("a", "again"), 10);
        assert_eq!(name(&targets, "a").as_deref(), Some("again"), "its place is that of its return");
        targets.learn(Target::unknown("one more"), 10);
        assert_eq!(name(&targets, "a").as_deref(), Some("again"));
        assert!(targets.find("1").is_none(), "this one is the oldest");
    }
}
