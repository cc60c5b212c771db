//! Flags whose results a change can affect, computed once for all groups with the same step.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use yardarm_core::Snapshot;

use crate::data::{FlagData, Items};

/// When more items have changed than this, all flags are evaluated, which is no slower then.
const MOST_CHANGED: usize = 32;

/// AffectedKeys of flags whose results may differ between two moments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Affected {
    All,
    /// Sorted.
    These(Arc<[Arc<str>]>),
}

/// The last result, which the other groups of an environment need next.
#[derive(Default)]
pub(super) struct AffectedBetween(Mutex<Option<((u64, u64), Affected)>>);

impl AffectedBetween {
    /// The flags whose results may differ between two moments of one environment.
    pub(super) fn get(&self, old: &Snapshot<FlagData>, new: &Snapshot<FlagData>) -> Affected {
        let moments = (old.seq(), new.seq());
        // Held during the computation, so that one group does it for all; nothing in it waits.
        let mut newest = self.0.lock();
        if let Some((of, affected)) = &*newest
            && *of == moments
        {
            return affected.clone();
        }
        let affected = between(old.data(), new.data());
        *newest = Some((moments, affected.clone()));
        affected
    }
}

pub(super) fn between(old: &FlagData, new: &FlagData) -> Affected {
    // An old change is announced without changing the data.
    if std::ptr::eq(old, new) {
        return Affected::These(Arc::default());
    }
    let Some((flags, segments)) = changed(old.items(), new.items()) else { return Affected::All };
    // Both, because a flag may refer to an item before or after the change only.
    let rulesets = [old.ruleset(), new.ruleset()];
    let of_flags = flags.iter().flat_map(|key| rulesets.map(|it| it.affected_by_flag(key)));
    let of_segments = segments.iter().flat_map(|key| rulesets.map(|it| it.affected_by_segment(key)));
    let affected: BTreeSet<Arc<str>> = of_flags.chain(of_segments).flatten().collect();
    Affected::These(affected.into_iter().collect())
}

type AffectedKeys = Vec<Arc<str>>;

/// AffectedKeys of flags and segments that are not the same allocation in both; `None` if they are too many.
fn changed(old: &Items, new: &Items) -> Option<(AffectedKeys, AffectedKeys)> {
    let flags: AffectedKeys =
        new.flags.changes(&old.flags).map(|(key, _)| Arc::clone(key)).take(MOST_CHANGED + 1).collect();
    let segments: AffectedKeys =
        new.segments.changes(&old.segments).map(|(key, _)| Arc::clone(key)).take(MOST_CHANGED + 1).collect();
    (flags.len() <= MOST_CHANGED && segments.len() <= MOST_CHANGED).then_some((flags, segments))
}
