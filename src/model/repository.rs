//! Versions on disk: the folders named by a number below a model's base path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Files whose presence makes a folder a version.
pub(super) const MODEL_FILES: [&str; 2] = ["model.onnx", "saved_model.pb"];

/// The versions below `base`, by number. Leading zeros count for nothing, other names are passed over; a folder that holds a
/// model itself, or a model file, is one version: the number that it is named, or else 1. Empty when there is none.
///
/// # Errors
/// `NOT_FOUND` when there is nothing at `base`, or whatever keeps it from being read.
pub fn scan(base: &Path) -> Result<BTreeMap<i64, PathBuf>> {
    if base.is_file() {
        return Ok(BTreeMap::from([(1, base.to_path_buf())]));
    }
    let unreadable = |e: std::io::Error| Error::from(e).at(format!("model folder {}", base.display()));
    let mut versions = BTreeMap::new();
    for entry in std::fs::read_dir(base).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if let Some(version) = version_of(&path).filter(|_| path.is_dir()) {
            // Of two spellings of one number the first in the alphabet counts, so that every scan agrees.
            let known = versions.entry(version).or_insert_with(|| path.clone());
            if path < *known {
                *known = path;
            }
        }
    }
    if versions.is_empty() && MODEL_FILES.iter().any(|file| base.join(file).is_file()) {
        versions.insert(version_of(base).unwrap_or(1), base.to_path_buf());
    }
    Ok(versions)
}

/// The version number that `path` is named, if its name is one.
fn version_of(path: &Path) -> Option<i64> {
    let name = path.file_name()?.to_str()?;
    name.bytes().all(|b| b.is_ascii_digit()).then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::Code;

    fn versions(base: &Path) -> Vec<i64> {
        scan(base).expect("readable").into_keys().collect()
    }

    #[test]
    fn numbers_are_versions_and_other_names_are_not() {
        let base = tempfile::tempdir().expect("a folder");
        for name in ["00000123", "7", "007", "-1", "v2", "99999999999999999999", ".git"] {
            fs::create_dir(base.path().join(name)).expect("a child");
        }
        fs::write(base.path().join("8"), "").expect("a file");
        let found = scan(base.path()).expect("readable");
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [7, 123]);
        assert!(found[&7].ends_with("007"));
    }

    #[test]
    fn a_model_given_directly_is_one_version() {
        let base = tempfile::tempdir().expect("a folder");
        assert!(versions(base.path()).is_empty());
        let (named, numbered) = (base.path().join("digits"), base.path().join("0042"));
        for folder in [&named, &numbered] {
            fs::create_dir(folder).expect("a folder");
            fs::write(folder.join("model.onnx"), "").expect("a file");
        }
        assert_eq!(versions(&named), [1]);
        assert_eq!(versions(&numbered), [42]);
        assert_eq!(versions(&named.join("model.onnx")), [1]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = scan(Path::new("/nowhere/at/all")).expect_err("missing");
        assert_eq!(error.code(), Code::NotFound);
        assert!(error.message().contains("/nowhere/at/all"), "{error}");
    }
}
