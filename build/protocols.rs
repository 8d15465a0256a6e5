//! proto/ → Rust, without protoc.

use std::path::{Path, PathBuf};

use prost::Message as _;
use tonic_prost_build::Config;

/// Compiles every service and message, and writes `descriptors.bin` for server reflection and text formats.
pub(super) fn compile(out: &Path) {
    println!("cargo:rerun-if-changed=proto");
    let mut files = Vec::new();
    find(Path::new("proto"), &mut files);
    let descriptors = match protox::compile(files, ["proto"]) {
        Ok(descriptors) => descriptors,
        Err(error) => panic!("{error:?}"),
    };
    let mut config = Config::new();
    // Weights and tensor contents are borrowed from the message's buffer instead of copied.
    config.bytes(["."]);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec()).expect("OUT_DIR is writable");
    tonic_prost_build::configure()
        .build_client(true)
        .compile_fds_with_config(descriptors, config)
        .expect("the descriptors are consistent");
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("readable").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
}
