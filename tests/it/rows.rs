//! The tables of what is held by which test, against the tests.

use std::path::Path;

#[test]
fn every_test_named_here_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let table = read("docs/tensorflow-serving-rows.md") + &read("docs/reliability.md");
    let mut names = 0;
    // What stands between two marks of code is every other part.
    for name in table.split('`').skip(1).step_by(2) {
        if let Some((file, function)) = name.split_once("::").filter(|(file, _)| *file != "file") {
            let test = format!("fn {function}(");
            assert!(read(&format!("tests/it/{file}.rs")).contains(&test), "there is no test {name}");
            names += 1;
        } else if let Some(part) = name.strip_suffix(".py").filter(|part| *part != "name") {
            let run = read("scripts/lib/tfs_rows.py");
            assert!(run.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == part), "{name} is not run");
            read(&format!("scripts/lib/tfs/{name}"));
            names += 1;
        }
    }
    assert!(names > 80, "{names} names");
}
