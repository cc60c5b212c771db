//! Percentage rollouts and experiments: from a hash to a variation.

use std::sync::Arc;

use sha1::{Digest, Sha1};

use super::subject::{Lookup, Subject};
use super::symbols::Symbols;
use crate::model::{self, ReferenceError, Value, as_integer};

/// Weights are in thousandths of a percent.
#[expect(clippy::cast_precision_loss, reason = "weights are at most 100,000")]
pub(super) fn fraction(weight: i64) -> f32 {
    weight as f32 / 100_000.0
}

/// How the bucket of a context is computed, a number from 0 to 1.
#[derive(Debug)]
pub(super) struct Bucketing {
    /// `key.salt.` or `seed.`, the start of the hash input.
    prefix: Arc<str>,
    /// The hashed attribute, by the number of its reference.
    attribute: u32,
    /// Whether the secondary key of old users counts. In experiments it does not.
    secondary: bool,
}

/// The bucket of one context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    pub(super) value: f32,
    /// Whether the context has an individual context of the kind that is hashed.
    pub(super) kind_found: bool,
}

/// A rollout or experiment, compiled.
#[derive(Debug)]
pub(super) struct CompiledRollout {
    bucketing: Bucketing,
    experiment: bool,
    /// Never empty.
    shares: Box<[BucketShare]>,
}

#[derive(Debug, Clone, Copy)]
struct BucketShare {
    /// Sum of the weights up to here.
    end: f32,
    /// The index of a variation; `None` if it does not exist.
    variation: Option<u32>,
    untracked: bool,
}

/// The choice of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The index of a variation; `None` if it does not exist.
    pub(super) variation: Option<u32>,
    pub(super) in_experiment: bool,
}

impl Bucketing {
    /// Prepares bucketing by the attribute `bucket_by`, or by the key if it is empty.
    ///
    /// # Errors
    ///
    /// When `bucket_by` is not a valid reference.
    pub(super) fn compile(
        prefix: Arc<str>,
        context_kind: &str,
        bucket_by: &str,
        secondary: bool,
        symbols: &Symbols,
    ) -> Result<Self, ReferenceError> {
        let attribute = symbols.attribute(context_kind, if bucket_by.is_empty() { "key" } else { bucket_by })?;
        Ok(Self { prefix, attribute, secondary })
    }

    /// The bucket of `subject`; 0 if there is nothing to hash.
    pub(super) fn bucket(&self, subject: &Subject<'_>) -> Bucket {
        let (value, part) = match subject.look_up(self.attribute) {
            Lookup::NoContext => return Bucket { value: 0.0, kind_found: false },
            Lookup::NoValue => return Bucket { value: 0.0, kind_found: true },
            Lookup::Value(value, part) => (value, part),
        };
        let secondary = part.secondary().filter(|_| self.secondary);
        let mut integer = itoa::Buffer::new();
        let text = match value {
            Value::Text(text) => Some(text.as_str()),
            Value::Number(number) => as_integer(*number).map(|number| integer.format(number)),
            _ => None,
        };
        let value = text.map_or(0.0, |text| position(&self.prefix, text, secondary));
        Bucket { value, kind_found: true }
    }
}

impl CompiledRollout {
    /// Compiles `rollout`, for which the hash input starts with `prefix`; `existing` gives the index of a variation.
    ///
    /// # Errors
    ///
    /// When it is bucketed by something that is not a valid reference.
    pub(super) fn compile(
        rollout: &model::Rollout,
        prefix: Arc<str>,
        existing: impl Fn(i64) -> Option<u32>,
        symbols: &Symbols,
    ) -> Result<Self, ReferenceError> {
        // An experiment is about the context itself; other attributes are ignored, valid or not.
        let bucket_by = if rollout.experiment { "" } else { &*rollout.bucket_by };
        let secondary = !rollout.experiment;
        let bucketing = Bucketing::compile(prefix, &rollout.context_kind, bucket_by, secondary, symbols)?;
        let mut end = 0.0;
        let shares = rollout.shares.iter().map(|share| {
            end += fraction(share.weight);
            BucketShare { end, variation: existing(share.variation), untracked: share.untracked }
        });
        Ok(Self { bucketing, experiment: rollout.experiment, shares: shares.collect() })
    }

    /// Chooses a variation for `subject`; `None` if there is none to choose from.
    pub(super) fn choose(&self, subject: &Subject<'_>) -> Option<Chosen> {
        let bucket = self.bucketing.bucket(subject);
        let (share, tracked) = match self.shares.iter().find(|share| bucket.value < share.end) {
            Some(share) => (share, bucket.kind_found),
            // Rounding left a gap, or all weights are 0. The vendor's evaluator does not look at the kind here.
            None => (self.shares.last()?, true),
        };
        let in_experiment = self.experiment && !share.untracked && tracked;
        Some(Chosen { variation: share.variation, in_experiment })
    }
}

/// The bucket of a hash input, from 0 to 1.
fn position(prefix: &str, text: &str, secondary: Option<&str>) -> f32 {
    let mut sha1 = Sha1::new();
    sha1.update(prefix);
    sha1.update(text);
    if let Some(secondary) = secondary {
        sha1.update(".");
        sha1.update(secondary);
    }
    let hash = sha1.finalize();
    // 15 hexadecimal digits are 60 bits.
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte)) >> 4;
    // The divisor 0xFFFFFFFFFFFFFFF rounds to 2^60, a power of two: the conversion is the only rounding.
    #[expect(clippy::cast_precision_loss, reason = "rounding once, from the integer, is what all SDKs do")]
    let position = number as f32 / 0x0FFF_FFFF_FFFF_FFFF_u64 as f32;
    position
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The bucket of a text, for the vectors.
    pub(in super::super) fn bucket(key: &str, salt: &str, seed: Option<i64>, value: &str) -> f32 {
        let prefix = seed.map_or_else(|| format!("{key}.{salt}."), |seed| format!("{seed}."));
        position(&prefix, value, None)
    }

    #[test]
    fn buckets_are_exact_to_the_last_bit() {
        assert_eq!(bucket("hashKey", "saltyA", None, "userKeyA").to_bits(), 0x3ed7_d8cb);
        assert_eq!(bucket("hashKey", "saltyA", None, "userKeyB"), 0.670_848_5);
        assert_eq!(bucket("hashKey", "saltyA", None, "userKeyC"), 0.103_431_06);
        assert_eq!(bucket("hashKey", "saltyA", Some(61), "userKeyA"), 0.098_012_07);
        assert_eq!(bucket("hashKey", "saltyA", Some(61), "userKeyC"), 0.924_264_1);
        assert_eq!(bucket("segment3", "salty", None, "user-key"), 0.149_502_13);
        assert_eq!(bucket("segment3", "salty", None, "unmatching-key"), 0.365_635_63);
    }

    #[test]
    fn a_secondary_key_is_appended() {
        assert_eq!(position("a.b.", "c", Some("d")), position("a.b.", "c.d", None));
        assert_eq!(position("a.b.", "c", Some("")), position("a.b.", "c.", None));
    }

    #[test]
    fn weights_add_up_in_single_precision() {
        let sum = [33_333, 33_333, 33_334].into_iter().map(fraction).fold(0.0, |sum, weight| sum + weight);
        assert!((sum - 1.0_f32).abs() < 1e-6);
        assert_eq!(fraction(14_955), 0.149_55);
    }
}
