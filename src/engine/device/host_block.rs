//! Host memory that devices import: pages of their own, written once and only read from then on.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::error::{Error, Result};

/// Whole pages of host memory, filled before anybody else sees them.
#[derive(Debug)]
pub(super) struct HostBlock {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the block owns its memory, and after `new` nothing writes to it.
unsafe impl Send for HostBlock {}
// SAFETY: as above: it is only read, by the host and by devices.
unsafe impl Sync for HostBlock {}

impl HostBlock {
    /// A block that begins with `contents` and goes on with zeros, its start and size multiples of `alignment`.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when the system has no memory for it.
    pub(super) fn new(contents: &[u8], alignment: usize) -> Result<Self> {
        let bytes = Self::size_of(contents.len() as u64, alignment) as usize;
        let layout = Layout::from_size_align(bytes, alignment)
            .map_err(|e| Error::internal(format!("a block of {bytes} bytes at multiples of {alignment}: {e}")))?;
        // SAFETY: the size is at least one alignment, and so not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })
            .ok_or_else(|| Error::resource_exhausted(format!("{bytes} bytes of host memory for weights")))?;
        // SAFETY: the block is new and at least as large as the contents.
        unsafe { start.as_ptr().copy_from_nonoverlapping(contents.as_ptr(), contents.len()) };
        Ok(Self { start, layout })
    }

    /// The size of a block for so many bytes.
    pub(super) fn size_of(bytes: u64, alignment: usize) -> u64 {
        bytes.max(1).next_multiple_of(alignment as u64)
    }

    /// Its first byte.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its size.
    pub(super) fn bytes(&self) -> u64 {
        self.layout.size() as u64
    }
}

impl Drop for HostBlock {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` by this layout; every importer holds the block, so none is left.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_whole_pages_that_hold_the_contents() {
        for length in [0usize, 1, 4095, 4096, 4097] {
            let contents: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let block = HostBlock::new(&contents, 4096).expect("a few pages");
            assert_eq!((block.start().as_ptr() as usize % 4096, block.bytes() % 4096), (0, 0));
            assert_eq!(block.bytes(), length.max(1).next_multiple_of(4096) as u64);
            // SAFETY: the block lives and has so many bytes.
            let found = unsafe { std::slice::from_raw_parts(block.start().as_ptr(), block.bytes() as usize) };
            assert_eq!(&found[..length], contents);
            assert!(found[length..].iter().all(|byte| *byte == 0));
        }
    }
}
