//! Largest files that are read.

/// Bytes of a component file; compiling takes a second per megabyte and more.
const LARGEST_FILE: u64 = 32 << 20;
/// The same with `profile = "large"`, for guests that carry a language's runtime.
pub(crate) const LARGEST_LARGE_FILE: u64 = 128 << 20;

/// Bytes that a component file may have.
pub(crate) fn largest_file(is_large: bool) -> u64 {
    if is_large { LARGEST_LARGE_FILE } else { LARGEST_FILE }
}
