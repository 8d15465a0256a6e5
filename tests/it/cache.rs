//! The cache folder: filled by one start, used by the next, and never needed.

use crate::server::{Server, has_adapter};

#[test]
fn a_start_fills_the_folder_and_the_next_one_reads_it() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let flag = format!("--cache_dir={}", folder.path().join("below").display());
    drop(Server::start(&["digits"], &[&flag, "--tune=load", "--enable_batching=false"]));
    let path = folder.path().join("below/tuning.json");
    // Adapters for which there is nothing to choose leave no file.
    if let Ok(text) = std::fs::read_to_string(&path) {
        let contents: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(contents["version"], 1);
        assert!(contents["tables"][0]["choices"].as_object().is_some_and(|choices| !choices.is_empty()), "{text}");
        drop(Server::start(&["digits"], &[&flag, "--tune=load", "--enable_batching=false"]));
        assert_eq!(std::fs::read_to_string(&path).expect("it stays"), text, "what is known is not measured again");
    }
    std::fs::write(&path, "no tuning file").expect("writable");
    drop(Server::start(&["digits"], &[&flag]));
}

#[test]
fn a_folder_that_cannot_be_made_is_no_obstacle() {
    if !has_adapter() {
        return;
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let flag = format!("--cache_dir={}", file.path().join("cache").display());
    drop(Server::start(&["digits"], &[&flag, "--tune=load", "--enable_batching=false"]));
}
