//! Largest files that are read.

/// Maximum size of a component file; compiling takes at least a second per megabyte.
const LARGEST_FILE: u64 = 32 << 20;
/// Maximum size with `profile = "large"`, for guests that contain a language runtime.
pub const LARGEST_COMPONENT: u64 = 128 << 20;

/// Returns the maximum size of a component file in bytes.
pub(crate) fn largest_file(is_large: bool) -> u64 {
    if is_large { LARGEST_COMPONENT } else { LARGEST_FILE }
}
