//! Where a model's file is.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file's name inside a model folder.
const FILE_NAME: &str = "model.onnx";

/// The model file that `path` means: itself, `model.onnx` in the folder, or `model.onnx` in the folder's newest version.
///
/// # Errors
/// `NOT_FOUND` when there is none.
pub fn locate(path: &Path) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let direct = path.join(FILE_NAME);
    if direct.is_file() {
        return Ok(direct);
    }
    let missing = || Error::not_found(format!("{} is no ONNX file and no folder with {FILE_NAME}", path.display()));
    let entries = std::fs::read_dir(path).map_err(|_| missing())?;
    let versions = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u64>().ok());
    let newest = versions.map(|v| (v, path.join(v.to_string()).join(FILE_NAME))).filter(|(_, file)| file.is_file());
    newest.max().map(|(_, file)| file).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for version in ["9", "10", "notes"] {
            std::fs::create_dir(folder.path().join(version)).expect("writable");
            std::fs::write(folder.path().join(version).join(FILE_NAME), b"").expect("writable");
        }
        let newest = folder.path().join("10").join(FILE_NAME);
        assert_eq!(locate(folder.path()).expect("two versions"), newest);
        assert_eq!(locate(&newest).expect("a file"), newest);
        assert!(locate(&folder.path().join("11")).is_err());
    }
}
