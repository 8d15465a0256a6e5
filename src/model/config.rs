//! What a configuration says about one model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::batch::Parameters;

/// Which of the versions in a folder are to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The highest so many.
    Latest(usize),
    /// All.
    All,
    /// These, where they exist.
    Specific(Vec<i64>),
}

impl Default for VersionPolicy {
    fn default() -> Self {
        Self::Latest(1)
    }
}

impl VersionPolicy {
    /// Those of `versions` that are to be served, highest first.
    pub fn select(&self, mut versions: Vec<i64>) -> Vec<i64> {
        versions.sort_unstable_by(|a, b| b.cmp(a));
        versions.dedup();
        match self {
            Self::Latest(count) => versions.truncate((*count).max(1)),
            Self::All => {}
            Self::Specific(wanted) => versions.retain(|v| wanted.contains(v)),
        }
        versions
    }
}

/// One model of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The name that requests use.
    pub name: String,
    /// The folder whose children are the versions; also one version's folder or a model file, which then is version 1.
    pub base_path: PathBuf,
    /// What the configuration calls the model's format. Kept for errors only: the files in the folder decide.
    pub platform: String,
    /// Which versions to serve.
    pub version_policy: VersionPolicy,
    /// Versions by label.
    pub labels: BTreeMap<String, i64>,
    /// How to batch; `None`: never merge requests.
    pub batching: Option<Parameters>,
}

impl ModelConfig {
    /// A model with the default policy, batching and no labels.
    pub fn new(name: impl Into<String>, base_path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            base_path: base_path.into(),
            platform: String::new(),
            version_policy: VersionPolicy::default(),
            labels: BTreeMap::new(),
            batching: Some(Parameters::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::VersionPolicy;

    #[test]
    fn policies_choose_the_highest_first() {
        let versions = vec![3, 1, 20, 3];
        assert_eq!(VersionPolicy::default().select(versions.clone()), [20]);
        assert_eq!(VersionPolicy::Latest(2).select(versions.clone()), [20, 3]);
        assert_eq!(VersionPolicy::All.select(versions.clone()), [20, 3, 1]);
        assert_eq!(VersionPolicy::Specific(vec![1, 7]).select(versions), [1]);
    }
}
