//! The file that a driver's compiled kernels are kept in between runs of the process.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use xxhash_rust::xxh3::xxh3_128;

use super::adapter::Adapter;
use super::cache::replace;

/// What a file starts with; behind it stand the hash of the data and the data.
const MAGIC: &[u8; 8] = b"coracle1";
/// Larger files are neither read nor written.
const BYTES_MAX: usize = 256 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct PipelineFile {
    path: PathBuf,
    /// Bytes when it was last written.
    kept: AtomicUsize,
}

impl PipelineFile {
    /// The file in `folder` for this adapter and driver and what an earlier run left in it. `None` where the backend has
    /// nothing to keep. `kind` tells apart what is kept by different owners of a cache.
    pub(super) fn open(adapter: &Adapter, folder: &Path, kind: &str) -> Option<(Self, Option<Vec<u8>>)> {
        let key = wgpu::util::pipeline_cache_key(adapter.info())?;
        let driver = xxh3_128(adapter.identity().as_bytes());
        let path = folder.join(format!("{key}_{driver:032x}{kind}.bin"));
        let data = read(&path);
        Some((Self { path, kept: AtomicUsize::new(data.as_ref().map_or(0, Vec::len)) }, data))
    }

    /// Writes the file anew if there is more to keep than before.
    pub(super) fn keep(&self, data: &[u8]) -> std::io::Result<()> {
        if data.len() > BYTES_MAX {
            return Ok(());
        }
        let before = self.kept.swap(data.len(), Ordering::Relaxed);
        if data.len() <= before {
            return Ok(());
        }
        let mut contents = MAGIC.to_vec();
        contents.extend_from_slice(&xxh3_128(data).to_le_bytes());
        contents.extend_from_slice(data);
        replace(&self.path, &contents).inspect_err(|_| self.kept.store(before, Ordering::Relaxed))
    }
}

/// The data of a file that is whole.
fn read(path: &Path) -> Option<Vec<u8>> {
    if std::fs::metadata(path).ok()?.len() > (BYTES_MAX + 64) as u64 {
        return None;
    }
    let contents = std::fs::read(path).ok()?;
    let data = verified(&contents);
    if data.is_none() {
        tracing::warn!(path = %path.display(), "a cache of compiled kernels is damaged and starts anew");
    }
    data.map(<[u8]>::to_vec)
}

/// What stands behind a header whose hash is right.
fn verified(contents: &[u8]) -> Option<&[u8]> {
    let (magic, rest) = contents.split_at_checked(MAGIC.len())?;
    let (hash, data) = rest.split_at_checked(16)?;
    (magic == MAGIC && hash == xxh3_128(data).to_le_bytes()).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_not_handed_to_the_driver() {
        let mut whole = MAGIC.to_vec();
        whole.extend_from_slice(&xxh3_128(b"compiled").to_le_bytes());
        whole.extend_from_slice(b"compiled");
        assert_eq!(verified(&whole), Some(b"compiled".as_slice()));
        for length in 0..whole.len() {
            assert_eq!(verified(&whole[..length]), None);
        }
        for position in 0..whole.len() {
            let mut changed = whole.clone();
            changed[position] ^= 1;
            assert_eq!(verified(&changed), None);
        }
    }
}
