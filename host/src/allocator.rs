//! Settings of the C library's allocator.

/// Size from which the memory of an allocation is returned to the system as soon as it is freed, in bytes. Less is kept for
/// the next allocations.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: std::ffi::c_int = 1 << 20;

/// Returns the memory of large allocations, such as the bytes of a component, to the system when they are freed.
///
/// glibc maps large allocations too, but it raises the size from which it does so to that of the largest one that was freed,
/// up to 32 MiB; what is smaller than that stays in its heaps from then on. A fixed size is never raised.
///
/// Must be called before other threads are started.
pub(crate) fn return_large_allocations() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` has no requirements but that no other thread runs, which changes the same settings.
    #[expect(unsafe_code, reason = "the settings have no other interface inside a process")]
    unsafe {
        // Each of them fixes both sizes, so the other one is set too, to the ratio that glibc would keep.
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * LARGE);
    }
}
