//! Small files that stand beside a model's.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file `name` beside the model file, or in the version's folder, `path`: where it is and what it says. `None` where there is
/// none.
///
/// # Errors
/// `INVALID_ARGUMENT` for one of more than `bytes_max` bytes, and those of reading it, with its name.
pub(super) fn beside(path: &Path, name: &str, bytes_max: u64) -> Result<Option<(PathBuf, String)>> {
    let folder = if path.is_file() { path.parent().unwrap_or(Path::new("")) } else { path };
    let file = folder.join(name);
    let opened = match std::fs::File::open(&file) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|e| Error::from(e).at(file.display()))?,
    };
    let mut text = String::new();
    let read = opened.take(bytes_max + 1).read_to_string(&mut text);
    if text.len() as u64 > bytes_max {
        return Err(Error::invalid_argument(format!(
            "{}: too long, expected at most {bytes_max} bytes",
            file.display()
        )));
    }
    read.map_err(|e| Error::from(e).at(file.display()))?;
    Ok(Some((file, text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_beside_models_are_found_from_file_and_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("model.onnx");
        std::fs::write(&model, "").expect("writable");
        assert!(beside(folder.path(), "a.toml", 9).expect("none").is_none());
        std::fs::write(folder.path().join("a.toml"), "nine byte").expect("writable");
        for path in [folder.path(), &model] {
            let (file, text) = beside(path, "a.toml", 9).expect("readable").expect("it is there");
            assert_eq!((file, text.as_str()), (folder.path().join("a.toml"), "nine byte"));
        }
        let error = beside(&model, "a.toml", 8).expect_err("too long");
        assert!(error.message().contains("a.toml: too long, expected at most 8 bytes"), "{error}");
    }
}
