//! What the command line asks for.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// See the module.
pub(crate) struct Options {
    pub(crate) time: Duration,
    pub(crate) callers: usize,
    pub(crate) trouble_every: Duration,
    /// Names and base paths.
    pub(crate) models: Vec<(String, PathBuf)>,
    pub(crate) svg: Option<PathBuf>,
    /// Further flags of the server.
    pub(crate) flags: Vec<String>,
}

const HELP: &str =
    "scripts/soak [--seconds=N] [--callers=N] [--trouble-s=N] [--model=NAME=BASE …] [--svg=FILE] [SERVER FLAGS]";

impl Options {
    /// Words that are not ours are the server's.
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (mut seconds, mut callers, mut trouble) = (60u64, 64usize, 10u64);
        let (mut models, mut svg, mut flags) = (Vec::new(), None, Vec::new());
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((&word, ""));
            let number = || value.parse::<u64>().map_err(|_| format!("{word}: expected a number\n{HELP}"));
            match key {
                "--bench" => {}
                "--help" => return Err(HELP.into()),
                "--seconds" => seconds = number()?,
                "--callers" => callers = number()? as usize,
                "--trouble-s" => trouble = number()?.max(1),
                "--svg" => svg = Some(value.into()),
                "--model" => {
                    let (name, base) = value.split_once('=').ok_or(format!("{word}: expected NAME=BASE\n{HELP}"))?;
                    models.push((name.to_owned(), base.into()));
                }
                _ => flags.push(word),
            }
        }
        if models.is_empty() {
            let small = ["half_plus_two", "two_inputs_two_outputs", "mixing"];
            models.push(("digits".into(), root.join("models/digits")));
            models.extend(small.map(|name| (name.to_owned(), root.join("tests/models").join(name))));
        }
        let [time, trouble_every] = [seconds, trouble].map(Duration::from_secs);
        Ok(Self { time, callers, trouble_every, models, svg, flags })
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.models.iter().map(|(name, _)| name.as_str()).collect()
    }
}
