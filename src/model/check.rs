//! What can be known to be wrong with a model's versions without loading them.

use std::path::Path;

use super::loader::graph;
use super::repository::scan;
use super::settings::Settings;
use super::signatures::{FILE, faces};
use crate::error::{Error, Result};
use crate::formats::onnx::ImportOptions;

/// Looks at the files beside the versions below `base`. Models themselves are read only where signatures are made from them.
/// Gives each mistake, with its place and what was expected.
pub fn check_versions(base: &Path, import: ImportOptions) -> Vec<Error> {
    match scan(base) {
        Err(error) => vec![error],
        Ok(versions) => versions.values().filter_map(|path| check(path, import).err()).collect(),
    }
}

fn check(path: &Path, import: ImportOptions) -> Result<()> {
    Settings::beside(path)?;
    let folder = if path.is_file() { path.parent().unwrap_or(Path::new("")) } else { path };
    if folder.join(FILE).exists() {
        faces(path, &graph(path, import)?.signature)?;
    }
    Ok(())
}
