//! What the compilation of a component may cost.

use std::time::Duration;

const MIB: u64 = 1 << 20;
/// Memory of a compiler: this, and the multiple of the size of the file.
const BASE_MEMORY: u64 = 512 * MIB;
const MEMORY_FACTOR: u64 = 64;
/// A compiler may have this much even if the machine has less.
const LEAST_MEMORY: u64 = 256 * MIB;
/// Processor time of a compiler: this, and more for each megabyte of the file. Cranelift takes about 1.5 s per megabyte.
const BASE_TIME: Duration = Duration::from_secs(30);
const TIME_PER_MIB: Duration = Duration::from_secs(15);

/// The largest limits of compilation; small files have smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Maximum memory of a compiler in bytes.
    pub memory: u64,
    /// Maximum time of a compilation, and maximum processor time.
    pub time: Duration,
}

/// The limits for one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Memory in bytes.
    pub(super) memory: u64,
    /// Processor time in seconds, over all threads.
    pub(super) processor: u64,
    /// Time in seconds.
    pub(super) time: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { memory: 2048 * MIB, time: Duration::from_secs(300) }
    }
}

impl CompileLimits {
    /// Returns the limits for a file of this size on a machine with `available` bytes of free memory, of which one eighth
    /// is left to the gateway.
    pub(super) fn of(&self, size: usize, available: Option<u64>) -> Limits {
        let size = size as u64;
        let room = available.map_or(u64::MAX, |bytes| (bytes - bytes / 8).max(LEAST_MEMORY));
        let processor = BASE_TIME + TIME_PER_MIB * u32::try_from(size.div_ceil(MIB)).unwrap_or(u32::MAX);
        let at_least_one = |time: Duration| time.as_secs().max(1);
        Limits {
            memory: (BASE_MEMORY + MEMORY_FACTOR * size).min(self.memory).min(room),
            processor: at_least_one(processor.min(self.time)),
            time: at_least_one(self.time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_with_the_file_up_to_the_settings_and_the_memory_of_the_machine() {
        let limits = CompileLimits::default();
        let of = |size, available| {
            let Limits { memory, processor, time } = limits.of(size, available);
            (memory / MIB, processor, time)
        };
        assert_eq!(of(0, None), (512, 30, 300));
        assert_eq!(of(1 << 20, None), (576, 45, 300));
        assert_eq!(of(12 << 20, None), (1280, 210, 300));
        assert_eq!(of(128 << 20, None), (2048, 300, 300));
        assert_eq!(of(128 << 20, Some(800 * MIB)), (700, 300, 300));
        assert_eq!(of(1 << 20, Some(0)), (256, 45, 300), "it is tried");
        let tight = CompileLimits { memory: 100 * MIB, time: Duration::from_secs(2) };
        assert_eq!(tight.of(1 << 20, Some(0)), Limits { memory: 100 * MIB, processor: 2, time: 2 });
    }
}
