//! Reading flags into the processor's cache before they are evaluated.
//!
//! A thousand flags do not fit into the cache of a core. An evaluation that meets them one by one waits for memory again
//! and again; for a group of flags, the processor fetches everything at the same time.

use std::array;
use std::hint::black_box;

use super::flag::CompiledFlag;

/// Flags in a group: enough to wait once for many, and few enough to be in the cache still when they are evaluated.
const GROUP: usize = 8;

/// Calls `visit` with each flag, after its memory was read.
pub(super) fn for_each<'a>(mut flags: impl Iterator<Item = &'a CompiledFlag>, mut visit: impl FnMut(&'a CompiledFlag)) {
    loop {
        let group: [Option<&CompiledFlag>; GROUP] = array::from_fn(|_| flags.next());
        let flags_of_group = || group.iter().copied().flatten();
        // What the flags point to is known only after they were read themselves.
        black_box(flags_of_group().fold(0, |sum, flag| sum ^ flag.number));
        black_box(flags_of_group().fold(0, |sum, flag| sum ^ flag.read_ahead()));
        flags_of_group().for_each(&mut visit);
        if group.iter().any(Option::is_none) {
            return;
        }
    }
}
