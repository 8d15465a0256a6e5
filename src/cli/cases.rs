//! Model folders in ONNX's test-data layout.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Folders inside each other that are searched.
const MAX_DEPTH: usize = 16;

/// What a case's folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `model.onnx`.
    Onnx,
    /// `saved_model/`.
    SavedModel,
}

/// A model with data sets.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Its folder, as found.
    pub(super) folder: PathBuf,
    /// What kind of model.
    pub(super) kind: Kind,
    /// Numbers and folders, ascending.
    pub(super) data_sets: Vec<(u64, PathBuf)>,
    /// `rtol` and `atol` from `index.json` beside the folder.
    pub(super) tolerances: Option<(f64, f64)>,
    noise: HashMap<u64, Vec<f64>>,
}

impl Case {
    /// How far output `output` of a correct engine may be from another's.
    pub(super) fn noise_max_abs(&self, data_set: u64, output: usize) -> f64 {
        self.noise.get(&data_set).and_then(|n| n.get(output)).copied().filter(|n| n.is_finite()).unwrap_or(0.0)
    }
}

/// The cases at or below `paths`, each folder's in order of name.
pub(super) fn find(paths: &[PathBuf]) -> Vec<Case> {
    let mut search = Search::default();
    for path in paths {
        search.visit(path, 0);
    }
    search.cases
}

/// `rtol` and `atol` by case name.
type Index = HashMap<String, (f64, f64)>;

#[derive(Default)]
struct Search {
    cases: Vec<Case>,
    /// `index.json` of each folder.
    indexes: HashMap<PathBuf, Index>,
}

impl Search {
    fn visit(&mut self, folder: &Path, depth: usize) {
        let folders = folders(folder);
        let data_sets = data_sets(&folders);
        let kind = match () {
            () if folder.join("model.onnx").is_file() => Some(Kind::Onnx),
            () if folder.join("saved_model").is_dir() => Some(Kind::SavedModel),
            () => None,
        };
        match kind {
            Some(kind) if !data_sets.is_empty() => {
                let tolerances = self.tolerances(folder);
                let noise = noise(folder);
                self.cases.push(Case { folder: folder.to_owned(), kind, data_sets, tolerances, noise });
            }
            _ if depth < MAX_DEPTH => folders.iter().for_each(|f| self.visit(f, depth + 1)),
            _ => {}
        }
    }

    fn tolerances(&mut self, folder: &Path) -> Option<(f64, f64)> {
        // Through the real path, so that `.` has a name and a folder above it.
        let folder = folder.canonicalize().ok()?;
        let (above, name) = (folder.parent()?, folder.file_name()?.to_str()?);
        let index = self.indexes.entry(above.to_owned()).or_insert_with(|| index(above));
        index.get(name).copied()
    }
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_dir()).collect();
    folders.sort();
    folders
}

fn data_sets(folders: &[PathBuf]) -> Vec<(u64, PathBuf)> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("test_data_set_")?.parse().ok();
    let mut sets: Vec<_> = folders.iter().filter_map(|path| Some((number(path)?, path.clone()))).collect();
    sets.sort();
    sets
}

fn index(folder: &Path) -> Index {
    #[derive(Deserialize)]
    struct Entry {
        name: String,
        rtol: Option<f64>,
        atol: Option<f64>,
    }
    let entries: Vec<Entry> = json(&folder.join("index.json")).unwrap_or_default();
    let given = |e: Entry| match (e.rtol, e.atol) {
        (None, None) => None,
        (rtol, atol) => Some((e.name, (rtol.unwrap_or(0.0), atol.unwrap_or(0.0)))),
    };
    entries.into_iter().filter_map(given).collect()
}

fn noise(folder: &Path) -> HashMap<u64, Vec<f64>> {
    #[derive(Deserialize)]
    struct Entry {
        data_set: u64,
        noise_max_abs: Option<Vec<Option<f64>>>,
    }
    let entries: Vec<Entry> = json(&folder.join("cases.json")).unwrap_or_default();
    let known = |n: Option<f64>| n.unwrap_or(0.0);
    let noise = |e: Entry| (e.data_set, e.noise_max_abs.into_iter().flatten().map(known).collect());
    entries.into_iter().map(noise).collect()
}

/// The file's contents; a file that is there but cannot be read is told of, because tolerances come from it.
fn json<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    let bytes = std::fs::read(path).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "not read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched_for_models_with_data() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| root.path().join(name);
        for folder in [
            "a/b/one/test_data_set_10",
            "a/b/one/test_data_set_2",
            "a/two/saved_model",
            "a/two/test_data_set_0",
            "a/none",
        ] {
            std::fs::create_dir_all(at(folder)).expect("writable");
        }
        for file in ["a/b/one/model.onnx", "a/none/model.onnx"] {
            std::fs::write(at(file), b"").expect("writable");
        }
        std::fs::write(at("a/b/index.json"), r#"[{"name": "one", "rtol": 0.5, "ops": []}]"#).expect("writable");
        std::fs::write(at("a/b/one/cases.json"), r#"[{"data_set": 2, "noise_max_abs": [0.25]}]"#).expect("writable");
        let cases = find(&[root.path().to_owned()]);
        assert_eq!(cases.iter().map(|c| c.kind).collect::<Vec<_>>(), [Kind::Onnx, Kind::SavedModel]);
        assert_eq!(cases[0].data_sets.iter().map(|d| d.0).collect::<Vec<_>>(), [2, 10]);
        assert_eq!(cases[0].tolerances, Some((0.5, 0.0)));
        assert_eq!((cases[0].noise_max_abs(2, 0), cases[0].noise_max_abs(10, 0)), (0.25, 0.0));
    }
}
