//! Memory that was freed and that the C library keeps.

/// Gives freed memory back to the operating system. glibc keeps it for the next burst and, where something lives
/// above it, for ever; other C libraries need no telling. Takes about 0.1 ms for each MiB given back, during
/// which allocations of other threads wait.
#[allow(unsafe_code)]
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` may be called at any time from any thread; it only returns unused pages.
    unsafe {
        libc::malloc_trim(0);
    }
}
