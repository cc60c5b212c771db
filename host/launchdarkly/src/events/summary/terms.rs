//! Properties that old events do not have, taken from flag data.

use std::sync::Arc;

use serde_json::Value;
use yardarm_launchdarkly_eval::model::Flag;

use super::read::Feature;
use crate::data::Items;

/// The last schema without variation indexes.
const SCHEMA_WITHOUT_VARIATIONS: u32 = 1;

/// How an evaluation is reported.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) variation: Option<i64>,
    /// Whether the evaluation is sent by itself, besides being counted.
    pub(super) has_full_event: bool,
    /// Until when it is also sent for debugging, in Unix milliseconds.
    pub(super) debug_until_ms: u64,
}

impl Terms {
    /// How an evaluation is reported, by the presence of properties (L197 to L210).
    pub(super) fn of(feature: &Feature<'_>, schema: u32, flags: &Items) -> Self {
        if feature.version.is_none() {
            // The flag did not exist, so the variation in the event does not count.
            return Self::default();
        }
        if feature.track_events.is_some() || feature.debug_until_ms != 0 {
            return Self {
                variation: feature.variation,
                has_full_event: feature.track_events.unwrap_or_default(),
                debug_until_ms: feature.debug_until_ms,
            };
        }
        let flag = flags.flag(&feature.key).map(Arc::as_ref);
        let inferred = || flag.filter(|_| schema <= SCHEMA_WITHOUT_VARIATIONS).and_then(|it| find(it, feature.value));
        let debug_until = flag.and_then(Flag::debug_events_until_date);
        Self {
            variation: feature.variation.or_else(inferred),
            has_full_event: flag.is_some_and(Flag::track_events),
            debug_until_ms: debug_until.and_then(|it| u64::try_from(it).ok()).unwrap_or_default(),
        }
    }
}

/// Index of the first variation that equals `value`.
fn find(flag: &Flag, value: &str) -> Option<i64> {
    let read = serde_json::from_str::<Value>(value).ok();
    let is_equal = |variation: &[u8]| {
        variation == value.as_bytes()
            || read.as_ref().is_some_and(|value| serde_json::from_slice(variation).is_ok_and(|it| equal(value, &it)))
    };
    let index = flag.variations().position(is_equal)?;
    i64::try_from(index).ok()
}

/// Equality as in Go's `ldvalue`, where all numbers are floats: `1` is `1.0`.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let has_equal = |(name, value)| right.get::<String>(name).is_some_and(|it| equal(value, it));
            left.len() == right.len() && left.iter().all(has_equal)
        }
        _ => left == right,
    }
}
