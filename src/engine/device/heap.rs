//! The process's heap: what is in use of it, and what a lost device's driver has freed goes back to the system.

/// Gives free memory back. Drivers allocate on threads of their own, and the C library keeps what such a thread freed in an arena
/// that the next device's threads may never use: without this, the resident set grows with every device that is replaced.
pub fn give_back_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes the allocator's own locks, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes of the C library's heap that are in use, drivers' included; `None` where that cannot be asked.
pub fn heap_in_use() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it takes the allocator's own locks, and may be called at any time from any thread.
        let told = unsafe { libc::mallinfo2() };
        Some(told.uordblks as u64 + told.hblkhd as u64)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_in_use() {
        // Far more than other tests allocate or free meanwhile.
        const MUCH: u64 = 1 << 30;
        let before = heap_in_use().expect("it is told");
        let held = Vec::<u8>::with_capacity(MUCH as usize);
        let during = heap_in_use().expect("it is told");
        assert!(during > before + MUCH / 2, "{before} and {during}, with {} more", held.capacity());
    }
}
