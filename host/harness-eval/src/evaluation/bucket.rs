//! Percentage rollouts: which of a hundred buckets a target is in.

/// Returns the bucket of a value, from 1 to 100. The name of the attribute is part of what is hashed (F101, F107).
#[must_use]
pub fn bucket(attribute: &str, value: &str) -> u32 {
    murmur3(&[attribute.as_bytes(), b":", value.as_bytes()].concat()) % 100 + 1
}

/// MurmurHash3, the 32-bit variant for x86, with seed 0.
pub(super) fn murmur3(bytes: &[u8]) -> u32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let scramble = |block: u32| block.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let mut hash = 0_u32;
    let (blocks, tail) = bytes.as_chunks::<4>();
    for block in blocks {
        hash ^= scramble(u32::from_le_bytes(*block));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let rest = tail.iter().rev().fold(0_u32, |rest, byte| rest << 8 | u32::from(*byte));
    hash ^= scramble(rest);
    // The algorithm mixes in the length modulo 2^32.
    hash ^= bytes.len() as u32;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_have_known_buckets() {
        // F101; the vendor's vectors contain many more.
        for (attribute, value, hash, expected) in [
            ("identifier", "user1", 3_374_622_078, 79),
            ("identifier", "user2", 1_275_100_365, 66),
            ("identifier", "target-1", 3_905_071_182, 83),
            ("email", "person0@example.com", 826_569_365, 66),
            ("city", "Zürich", 2_194_223_510, 11),
            ("n", "1000", 214_082_411, 12),
            ("b", "true", 1_257_988_384, 85),
        ] {
            assert_eq!(murmur3(format!("{attribute}:{value}").as_bytes()), hash);
            assert_eq!(bucket(attribute, value), expected);
        }
    }
}
