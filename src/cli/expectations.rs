//! Recorded results of `coracle verify`, so that a change in either direction is seen.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

use super::verify_case::{Outcome, Status};

/// What each case, named by its folder, gave when it was recorded.
#[derive(Debug)]
pub(super) struct Expectations {
    results: BTreeMap<String, String>,
    differences: Vec<String>,
}

/// `device` for a pass without host steps, `host` for one with; else the status.
pub(super) fn result(outcome: &Outcome) -> &'static str {
    match outcome.status {
        Status::Pass if outcome.host_steps.is_empty() => "device",
        Status::Pass => "host",
        other => other.name(),
    }
}

impl Expectations {
    /// Reads a file of lines `case TAB result`, or several results with `|` between them; what follows a second tab is for people.
    ///
    /// # Errors
    /// For a file that cannot be read and lines without a result.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut results = BTreeMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
            let mut columns = line.split('\t');
            let (Some(case), Some(result)) = (columns.next(), columns.next()) else {
                anyhow::bail!("{}:{}: a case without a result", path.display(), number + 1);
            };
            results.insert(case.to_owned(), result.to_owned());
        }
        Ok(Self { results, differences: Vec::new() })
    }

    /// Compares what a case gave with what it should; each case is expected once.
    pub(super) fn compare(&mut self, folder: &Path, outcome: &Outcome) {
        let case = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let given = result(outcome);
        match self.results.remove(&case) {
            Some(expected) if expected.split('|').any(|result| result == given) => {}
            Some(expected) => {
                let why = if outcome.message.is_empty() { String::new() } else { format!(": {}", outcome.message) };
                self.differences.push(format!("{case}: {expected} is recorded, now {given}{why}"));
            }
            None => self.differences.push(format!("{case}: nothing is recorded, now {given}")),
        }
    }

    /// What differs, cases that were recorded but not run included.
    pub(super) fn finish(self) -> Vec<String> {
        let missing =
            self.results.into_iter().map(|(case, expected)| format!("{case}: {expected} is recorded, now missing"));
        self.differences.into_iter().chain(missing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: Status, host_steps: &[&str]) -> Outcome {
        Outcome {
            status,
            max_abs: None,
            max_rel_to_range: None,
            message: String::new(),
            host_steps: host_steps.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    #[test]
    fn changes_in_either_direction_are_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("recorded.tsv");
        std::fs::write(&path, "# case\tresult\na\tdevice\nb\thost\tSplit\nc\tfail|host\nd\tdevice\n")
            .expect("writable");
        let mut expected = Expectations::read(&path).expect("four lines");
        expected.compare(Path::new("suite/a"), &outcome(Status::Pass, &[]));
        expected.compare(Path::new("suite/b"), &outcome(Status::Pass, &[]));
        expected.compare(Path::new("suite/c"), &outcome(Status::Fail, &[]));
        expected.compare(Path::new("suite/e"), &outcome(Status::Pass, &["Add:x:y"]));
        let told = expected.finish();
        assert_eq!(
            told,
            [
                "b: host is recorded, now device",
                "e: nothing is recorded, now host",
                "d: device is recorded, now missing"
            ]
        );
        std::fs::write(&path, "alone\n").expect("writable");
        assert!(Expectations::read(&path).is_err());
    }
}
