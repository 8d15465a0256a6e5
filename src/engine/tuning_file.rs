//! The file that measured choices are kept in: tables by adapter, driver and kernels, so that one file serves several machines.

use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::device::replace;
use super::ir::Choices;

/// The form of the file described here.
const VERSION: u32 = 1;
/// Larger files are not read.
const BYTES_MAX: u64 = 64 << 20;
/// Tables kept; past it the oldest go.
const TABLES_MAX: usize = 64;
/// Choices kept in one table; past it none is added.
const CHOICES_MAX: usize = 1 << 16;

/// What choices hold for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    /// The adapter's name, its driver's name and version, the backend.
    pub(super) adapter: String,
    /// A hash of all that kernels are made from.
    pub(super) kernels: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Table {
    #[serde(flatten)]
    subject: Subject,
    choices: Choices,
}

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    version: u32,
    tables: Vec<Table>,
}

/// Why a file gives nothing.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It is not there.
    Missing,
    /// It cannot be read, or was written by a later version: it stays as it is.
    Foreign(String),
    /// It is no tuning file any more: the next write makes a new one.
    Corrupt(String),
}

fn contents(path: &Path) -> Result<Contents, Unusable> {
    let foreign = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Unusable::Missing,
        _ => Unusable::Foreign(error.to_string()),
    };
    let bytes = std::fs::metadata(path).map_err(foreign)?.len();
    if bytes > BYTES_MAX {
        return Err(Unusable::Foreign(format!("{bytes} bytes are more than a tuning file has")));
    }
    let text = std::fs::read(path).map_err(foreign)?;
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| Unusable::Corrupt(e.to_string()))?;
    if let Some(version) = value["version"].as_u64().filter(|v| *v > u64::from(VERSION)) {
        return Err(Unusable::Foreign(format!("it is of version {version}, this program knows {VERSION}")));
    }
    serde_json::from_value(value).map_err(|e| Unusable::Corrupt(e.to_string()))
}

/// The choices that the file has for `subject`.
pub(super) fn read(path: &Path, subject: &Subject) -> Result<Choices, Unusable> {
    let tables = contents(path)?.tables;
    let found = tables.into_iter().find(|table| table.subject == *subject);
    Ok(found.map(|table| table.choices).unwrap_or_default())
}

/// Adds `choices` to the file's table for `subject`; what stands there already stays. Tables of the same adapter and other
/// kernels go. Processes that add at the same time wait for one another.
pub(super) fn add(path: &Path, subject: &Subject, choices: &Choices) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Held until it is dropped, and beside the file: that one is replaced by another.
    let lock = File::create(path.with_extension("lock"))?;
    lock.lock()?;
    let mut tables = match contents(path) {
        Ok(contents) => contents.tables,
        Err(Unusable::Missing | Unusable::Corrupt(_)) => Vec::new(),
        Err(Unusable::Foreign(reason)) => return Err(std::io::Error::other(reason)),
    };
    tables.retain(|table| table.subject.adapter != subject.adapter || table.subject.kernels == subject.kernels);
    let position = tables.iter().position(|table| table.subject == *subject).unwrap_or_else(|| {
        tables.push(Table { subject: subject.clone(), choices: Choices::new() });
        tables.len() - 1
    });
    let table = &mut tables[position].choices;
    for (key, name) in choices {
        if table.len() < CHOICES_MAX {
            table.entry(key.clone()).or_insert_with(|| name.clone());
        }
    }
    let surplus = tables.len().saturating_sub(TABLES_MAX);
    tables.drain(..surplus);
    let text = serde_json::to_string_pretty(&Contents { version: VERSION, tables })?;
    replace(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(adapter: &str, kernels: &str) -> Subject {
        Subject { adapter: adapter.into(), kernels: kernels.into() }
    }

    fn choices(pairs: &[(&str, &str)]) -> Choices {
        pairs.iter().map(|(key, name)| ((*key).to_owned(), (*name).to_owned())).collect()
    }

    #[test]
    fn what_is_added_is_read_again_for_the_same_subject_only() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("below/tuning.json");
        let (mine, other) = (subject("a", "1"), subject("b", "1"));
        assert!(matches!(read(&path, &mine), Err(Unusable::Missing)));
        add(&path, &mine, &choices(&[("p", "8x4")])).expect("writable");
        add(&path, &other, &choices(&[("p", "4x4")])).expect("writable");
        // The first to measure a problem decides.
        add(&path, &mine, &choices(&[("p", "1x1"), ("q", "2x2")])).expect("writable");
        assert_eq!(read(&path, &mine).expect("readable"), choices(&[("p", "8x4"), ("q", "2x2")]));
        assert_eq!(read(&path, &other).expect("readable"), choices(&[("p", "4x4")]));
        // Other kernels: nothing is known, and what was known goes.
        let renewed = subject("a", "2");
        assert_eq!(read(&path, &renewed).expect("readable"), choices(&[]));
        add(&path, &renewed, &choices(&[("r", "1x1")])).expect("writable");
        assert_eq!(read(&path, &mine).expect("readable"), choices(&[]));
        assert_eq!(read(&path, &other).expect("readable"), choices(&[("p", "4x4")]));
    }

    #[test]
    fn processes_that_add_at_once_lose_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tuning.json");
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    for problem in 0..8 {
                        let key = format!("{writer} {problem}");
                        add(path, &subject("a", "1"), &choices(&[(&key, "8x4")])).expect("writable");
                    }
                });
            }
        });
        assert_eq!(read(&path, &subject("a", "1")).expect("readable").len(), 64);
    }

    #[test]
    fn damaged_files_start_anew_and_later_ones_stay() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tuning.json");
        let mine = subject("a", "1");
        for text in ["", "{", "[]", "{\"version\": 1}", "{\"version\": 1, \"tables\": [{}]}", "\u{0}\u{1}"] {
            std::fs::write(&path, text).expect("writable");
            assert!(matches!(read(&path, &mine), Err(Unusable::Corrupt(_))), "{text}");
            add(&path, &mine, &choices(&[("p", "8x4")])).expect("writable");
            assert_eq!(read(&path, &mine).expect("readable").len(), 1);
        }
        let later = "{\"version\": 2, \"tables\": \"of another kind\"}";
        std::fs::write(&path, later).expect("writable");
        assert!(matches!(read(&path, &mine), Err(Unusable::Foreign(_))));
        assert!(add(&path, &mine, &choices(&[])).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), later);
    }
}
