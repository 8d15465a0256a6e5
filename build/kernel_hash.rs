//! One number for all that kernels are made from, so that what was measured with other kernels is not believed.

use std::path::{Path, PathBuf};

/// Folders of the shaders and of what generates and chooses the rest.
const FOLDERS: [&str; 2] = ["shaders", "src/engine/kernels"];

/// Sets the variable KERNEL_HASH for the compiler.
pub(super) fn set() {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    for folder in FOLDERS {
        println!("cargo:rerun-if-changed={folder}");
        let mut files = Vec::new();
        collect(Path::new(folder), &mut files);
        files.sort();
        for file in files {
            hash.write(file.to_string_lossy().replace('\\', "/").as_bytes());
            // Line ends may differ between checkouts.
            let text = std::fs::read(&file).expect("a source file is readable");
            hash.write(&text.into_iter().filter(|byte| *byte != b'\r').collect::<Vec<_>>());
        }
    }
    println!("cargo:rustc-env=KERNEL_HASH={:016x}", hash.0);
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("its entries are readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// The hash of Fowler, Noll and Vo, in its variant 1a of 64 bits.
struct Fnv(u64);

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
