//! The process's heap: what a lost device's driver has freed goes back to the system.

/// Gives free memory back. Drivers allocate on threads of their own, and the C library keeps what such a thread freed in an arena
/// that the next device's threads may never use: without this, the resident set grows with every device that is replaced.
pub fn give_back_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes the allocator's own locks, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
