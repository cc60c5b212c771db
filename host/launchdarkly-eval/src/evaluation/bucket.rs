//! Percentage rollouts and experiments: from a hash to a variation.

use sha1::{Digest, Sha1};

use super::subject::{Lookup, Subject};
use crate::model::{Value, as_integer};

/// Weights are in thousandths of a percent.
#[expect(clippy::cast_precision_loss, reason = "weights are at most 100,000")]
pub(super) fn fraction(weight: i64) -> f32 {
    weight as f32 / 100_000.0
}

/// The bucket of one context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    pub(super) value: f32,
    /// Whether the context has an individual context of the kind that is hashed.
    pub(super) kind_found: bool,
}

/// The bucket of `subject` by the attribute with this number; 0 if there is nothing to hash.
///
/// `prefix` is the start of the hash input: `key.salt.`, or `seed.`. The secondary key of old users counts if
/// `has_secondary`.
pub(super) fn bucket(subject: &Subject<'_>, attribute: u32, prefix: &[u8], has_secondary: bool) -> Bucket {
    let (value, part) = match subject.look_up(attribute) {
        Lookup::NoContext => return Bucket { value: 0.0, kind_found: false },
        Lookup::NoValue => return Bucket { value: 0.0, kind_found: true },
        Lookup::Value(value, part) => (value, part),
    };
    let secondary = part.secondary().filter(|_| has_secondary);
    let mut integer = itoa::Buffer::new();
    let text = match value {
        Value::Text(text) => Some(text.as_str()),
        Value::Number(number) => as_integer(*number).map(|number| integer.format(number)),
        _ => None,
    };
    let value = text.map_or(0.0, |text| position(prefix, text, secondary));
    Bucket { value, kind_found: true }
}

/// The bucket of a hash input, from 0 to 1.
fn position(prefix: &[u8], text: &str, secondary: Option<&str>) -> f32 {
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
        position(prefix.as_bytes(), value, None)
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
        assert_eq!(position(b"a.b.", "c", Some("d")), position(b"a.b.", "c.d", None));
        assert_eq!(position(b"a.b.", "c", Some("")), position(b"a.b.", "c.", None));
    }

    #[test]
    fn weights_add_up_in_single_precision() {
        let sum = [33_333, 33_333, 33_334].into_iter().map(fraction).fold(0.0, |sum, weight| sum + weight);
        assert!((sum - 1.0_f32).abs() < 1e-6);
        assert_eq!(fraction(14_955), 0.149_55);
    }
}
