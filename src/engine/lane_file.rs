//! The file that says how much work adapters did with one lane, two and so on.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::device::replace;

/// The form of the file described here.
const VERSION: u32 = 1;
/// Larger files are not read.
const BYTES_MAX: u64 = 1 << 20;
/// Adapters kept; past it the file starts anew.
const ADAPTERS_MAX: usize = 64;

/// Runs a second of each kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rates {
    /// Of small products.
    pub(super) small: f64,
    /// Of large ones.
    pub(super) large: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    version: u32,
    /// By adapter, driver and what else a measurement holds for.
    adapters: BTreeMap<String, Vec<Rates>>,
}

fn contents(path: &Path) -> Option<Contents> {
    if std::fs::metadata(path).ok()?.len() > BYTES_MAX {
        return None;
    }
    let contents: Contents = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    Some(contents).filter(|contents| contents.version == VERSION)
}

/// What the file has for `key`: at least one line of positive numbers. Files that are none count as empty: a measurement takes a
/// second.
pub(super) fn read(path: &Path, key: &str) -> Option<Vec<Rates>> {
    let rates = contents(path)?.adapters.remove(key)?;
    let is_sound = !rates.is_empty() && rates.iter().all(|rates| rates.small > 0.0 && rates.large > 0.0);
    is_sound.then_some(rates)
}

/// Has the file say so from now on. Of processes that do this at once, one is not heard.
pub(super) fn add(path: &Path, key: &str, rates: &[Rates]) -> std::io::Result<()> {
    let mut adapters = contents(path).map(|contents| contents.adapters).unwrap_or_default();
    if adapters.len() >= ADAPTERS_MAX {
        adapters.clear();
    }
    adapters.insert(key.to_owned(), rates.to_vec());
    replace(path, serde_json::to_string_pretty(&Contents { version: VERSION, adapters })?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_what_was_added_and_others_are_empty() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("deep/lanes.json");
        let rates = |small| vec![Rates { small, large: 2.0 }];
        assert_eq!(read(&path, "a"), None);
        add(&path, "a", &rates(1.0)).expect("writable");
        add(&path, "b", &rates(3.0)).expect("writable");
        add(&path, "b", &rates(0.0)).expect("writable");
        assert_eq!((read(&path, "a"), read(&path, "b"), read(&path, "c")), (Some(rates(1.0)), None, None));
        for wrong in ["", "{", r#"{"version": 2, "adapters": {}}"#, r#"{"version": 1, "adapters": {"a": [1]}}"#] {
            std::fs::write(&path, wrong).expect("writable");
            assert_eq!(read(&path, "a"), None, "{wrong}");
        }
        add(&path, "a", &rates(5.0)).expect("it starts anew");
        assert_eq!(read(&path, "a"), Some(rates(5.0)));
    }
}
