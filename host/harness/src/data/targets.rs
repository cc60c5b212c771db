//! Targets of one environment: those that upstream lists, and those that SDKs present.

mod compact;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use yardarm_harness_eval::model::Target;

use self::compact::{CompactTargets, Packed};

/// Minimum share of an environment in bytes, for any number of environments.
const MIN_SHARE: usize = 256 << 10;

/// Memory for targets that SDKs present, over all environments. Each environment has an equal share, so that callers of one
/// cannot displace the targets of another.
#[derive(Debug)]
pub(crate) struct TargetBudget {
    bytes: usize,
    environments: AtomicUsize,
}

/// Known targets.
pub(crate) struct Targets {
    known: Mutex<TargetLists>,
    budget: Arc<TargetBudget>,
    are_polled: AtomicBool,
}

#[derive(Default)]
struct TargetLists {
    listed: CompactTargets,
    presented: CompactTargets,
}

impl TargetBudget {
    /// Returns a budget of `bytes` for all environments together.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes, environments: AtomicUsize::new(0) })
    }

    fn share(&self) -> usize {
        (self.bytes / self.environments.load(Ordering::Relaxed).max(1)).max(MIN_SHARE)
    }
}

impl Targets {
    pub(crate) fn new(budget: &Arc<TargetBudget>) -> Self {
        budget.environments.fetch_add(1, Ordering::Relaxed);
        Self { known: Mutex::default(), budget: Arc::clone(budget), are_polled: AtomicBool::new(false) }
    }

    /// Returns the newest version of a target: the one that an SDK presented last, or else the one that upstream lists.
    pub(crate) fn find(&self, identifier: &str) -> Option<Target> {
        let packed = {
            let mut known = self.lock();
            known.presented.find(identifier).or_else(|| known.listed.find(identifier))
        };
        packed?.unpack()
    }

    /// Remembers a target that an SDK presents. The least recently used targets are evicted when the share is exceeded.
    pub(crate) fn remember(&self, target: &Target) {
        let share = self.budget.share();
        let Some(packed) = Packed::new(target).filter(|it| it.size() <= share / 2) else {
            return tracing::debug!("a target is too large to be remembered");
        };
        let mut known = self.lock();
        known.presented.insert(packed);
        while known.presented.held_bytes() > share && known.presented.evict() {}
    }

    /// Replaces the list of upstream, which is newer than what SDKs presented before. An empty list changes nothing.
    pub(crate) fn replace_listed(&self, targets: &[Target]) {
        if targets.is_empty() {
            return;
        }
        let mut listed = CompactTargets::default();
        targets.iter().filter_map(Packed::new).for_each(|it| listed.insert(it));
        let mut known = self.lock();
        for target in targets {
            known.presented.remove(&target.identifier);
        }
        known.listed = listed;
    }

    /// Notes that upstream has sent a list, which may be empty.
    pub(crate) fn mark_polled(&self) {
        self.are_polled.store(true, Ordering::Release);
    }

    /// Returns whether upstream has ever sent a list to this process.
    pub(crate) fn are_polled(&self) -> bool {
        self.are_polled.load(Ordering::Acquire)
    }

    /// Returns the targets that upstream lists, in order of identifier.
    pub(crate) fn listed(&self) -> Vec<Target> {
        let all: Vec<_> = self.lock().listed.all().collect();
        let mut all: Vec<_> = all.iter().filter_map(Packed::unpack).collect();
        all.sort_by(|left, right| left.identifier.cmp(&right.identifier));
        all
    }

    fn lock(&self) -> MutexGuard<'_, TargetLists> {
        self.known.lock()
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        self.budget.environments.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BUDGET: usize = 64 << 20;

    fn target(identifier: &str, name: &str) -> Target {
        Target { name: name.into(), ..Target::unknown(identifier) }
    }

    fn name(targets: &Targets, identifier: &str) -> Option<String> {
        targets.find(identifier).map(|it| it.name)
    }

    #[test]
    fn the_newest_version_counts() {
        let targets = Targets::new(&TargetBudget::new(BUDGET));
        targets.remember(&target("a", "presented"));
        targets.remember(&target("b", "presented"));
        targets.replace_listed(&[target("a", "listed")]);
        assert_eq!(name(&targets, "a").as_deref(), Some("listed"));
        assert_eq!(name(&targets, "b").as_deref(), Some("presented"), "not in the list, and still known");
        targets.remember(&target("a", "again"));
        assert_eq!(name(&targets, "a").as_deref(), Some("again"));
        targets.replace_listed(&[]);
        assert_eq!(name(&targets, "a").as_deref(), Some("again"), "an empty list changes nothing");
        assert_eq!(targets.listed().len(), 1);
    }

    #[test]
    fn the_least_recently_used_are_evicted_and_environments_do_not_displace_each_other() {
        let budget = TargetBudget::new(2 << 20);
        let (mine, other) = (Targets::new(&budget), Targets::new(&budget));
        other.remember(&target("quiet", "q"));
        let long = "x".repeat(10_000);
        for number in 0..1000 {
            mine.remember(&target(&number.to_string(), &long));
            assert!(name(&mine, "0").is_some(), "in use all the time");
        }
        assert!(name(&mine, "1").is_none() && name(&mine, "999").is_some());
        assert!(mine.lock().presented.held_bytes() <= 1 << 20, "one half");
        assert_eq!(name(&other, "quiet").as_deref(), Some("q"));
        mine.remember(&target("huge", &"x".repeat(2 << 20)));
        assert!(name(&mine, "huge").is_none() && name(&mine, "999").is_some());
        drop(other);
        assert_eq!(budget.share(), 2 << 20);
    }

    fn resident() -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[test]
    fn memory_use_stays_near_the_budget() {
        // In a process of its own, for other tests take memory too.
        const CHILD: &str = "YARDARM_TEST_MEASURES_TARGETS";
        let Ok(kind) = std::env::var(CHILD) else {
            for kind in ["small", "many attributes", "replaced"] {
                let test = "data::targets::tests::memory_use_stays_near_the_budget";
                let mut child = std::process::Command::new(std::env::current_exe().unwrap());
                let output = child.args(["--exact", test, "--nocapture"]).env(CHILD, kind).output().unwrap();
                assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
            }
            return;
        };
        let budget = 16 << 20;
        let targets = Targets::new(&TargetBudget::new(budget));
        let attributes = |count: usize| (0..count).map(|it| (format!("a{it}"), json!(it))).collect();
        let before = resident();
        for number in 0..400_000_usize {
            let (identifier, count) = match kind.as_str() {
                "small" => (number.to_string(), 0),
                "many attributes" if number < 20_000 => (number.to_string(), 300),
                "replaced" if number < 120_000 => ((number % 20_000).to_string(), number % 101),
                _ => break,
            };
            targets.remember(&Target { attributes: attributes(count), ..Target::unknown(&identifier) });
        }
        let taken = resident().saturating_sub(before);
        assert!(taken < budget * 3 / 2, "{kind}: {taken} bytes for a budget of {budget}");
        assert!(taken > budget / 3, "{kind}: {taken} bytes, so nothing was measured");
    }
}
