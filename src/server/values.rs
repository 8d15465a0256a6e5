//! The text of every setting, and where it comes from: flags over variables over the file over defaults.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use toml::{Spanned, Value};

use super::args::ServeArgs;
use super::foreign::{Fate, foreign};
use super::settings::{Kind, SETTINGS, Setting};
use crate::error::{Error, Result};

/// Where a setting's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Default,
    /// The file's name and the line.
    File(String, usize),
    Variable,
    Flag,
}

/// Every setting's text and origin.
#[derive(Debug)]
pub(super) struct Values {
    entries: BTreeMap<&'static str, (String, Origin)>,
    /// What is said of flags that were given and do nothing.
    pub(super) notes: Vec<String>,
    /// Whether the binary was called as TensorFlow Serving's: port 0 then means no port.
    pub(super) is_tensorflow: bool,
}

impl Values {
    /// Collects the settings. `variable` reads an environment variable.
    ///
    /// # Errors
    /// Every unknown key of the file and every value that is not of its setting's kind, with its place.
    pub(super) fn collect(args: &ServeArgs, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<Error>> {
        let mut wrong = Vec::new();
        let file = match &args.file {
            None => BTreeMap::new(),
            Some(path) => table(path).unwrap_or_else(|error| {
                wrong.push(error);
                BTreeMap::new()
            }),
        };
        for (key, (_, origin)) in file.iter().filter(|(key, _)| !SETTINGS.iter().any(|s| s.name == key.as_str())) {
            wrong.push(Error::invalid_argument(format!("{}there is no setting {key:?}", place(key, origin))));
        }
        let mut entries = BTreeMap::new();
        for setting in SETTINGS {
            let name = setting.name;
            let (text, origin) = if let Some(given) = args.given.get(name) {
                (given.clone(), Origin::Flag)
            } else if let Some(given) = variable(&variable_name(name)) {
                (given, Origin::Variable)
            } else if let Some((given, origin)) = file.get(name) {
                (given.clone(), origin.clone())
            } else {
                let other = setting.tensorflow.filter(|_| args.is_tensorflow);
                (other.unwrap_or(setting.default).to_owned(), Origin::Default)
            };
            match canonical(setting, &text) {
                Ok(text) => drop(entries.insert(name, (text, origin))),
                Err(error) => wrong.push(Error::invalid_argument(place(name, &origin) + error.message())),
            }
        }
        let mut notes = Vec::new();
        for (name, value) in &args.foreign {
            match foreign(name, value) {
                Ok(Fate::Silent) => {}
                Ok(Fate::Ignored(why)) => notes.push(format!("--{name} has no effect: {why}")),
                Err(error) => wrong.push(error),
            }
        }
        if wrong.is_empty() { Ok(Self { entries, notes, is_tensorflow: args.is_tensorflow }) } else { Err(wrong) }
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.entries.get(name).map_or("", |(text, _)| text)
    }

    /// Whether it was set at all.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|(_, origin)| *origin != Origin::Default)
    }

    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        let text = self.text(name);
        let error = || self.wrong(name, "a number in range");
        text.trim().parse().map_err(|_| error())
    }

    pub(super) fn switch(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|t| !t.is_empty()).map(PathBuf::from)
    }

    /// The place of the value among `choices`.
    pub(super) fn one_of(&self, name: &str, choices: &[&str]) -> Result<usize> {
        let text = self.text(name);
        choices.iter().position(|c| *c == text).ok_or_else(|| self.wrong(name, &choices.join(" or ")))
    }

    /// That a value is not what was expected.
    pub(super) fn wrong(&self, name: &str, expected: &str) -> Error {
        let (text, origin) = self.entries.get(name).map_or(("", &Origin::Default), |(text, origin)| (text, origin));
        Error::invalid_argument(format!("{}{name} is {text:?}, expected {expected}", place(name, origin)))
    }

    /// A TOML file that gives exactly these settings, with a comment on each.
    pub(super) fn to_toml(&self) -> String {
        let mut text = String::new();
        for setting in SETTINGS {
            let Some((value, origin)) = self.entries.get(setting.name) else { continue };
            let from = match origin {
                Origin::Default => "the default".to_owned(),
                Origin::File(..) => "from the file".to_owned(),
                Origin::Variable => format!("from {}", variable_name(setting.name)),
                Origin::Flag => format!("from --{}", setting.name),
            };
            let value = match setting.kind {
                Kind::Text => Value::String(value.clone()).to_string(),
                Kind::Switch | Kind::Number | Kind::Signed | Kind::Fraction => value.clone(),
            };
            let _ = writeln!(text, "# {} ({from})\n{} = {value}\n", setting.help, setting.name);
        }
        text
    }
}

fn place(name: &str, origin: &Origin) -> String {
    match origin {
        Origin::Default => String::new(),
        Origin::File(file, line) => format!("{file}:{line}: "),
        Origin::Variable => format!("{}: ", variable_name(name)),
        Origin::Flag => format!("--{name}: "),
    }
}

/// The file's keys, values and lines.
fn table(path: &str) -> Result<BTreeMap<String, (String, Origin)>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::from(e).at(path))?;
    let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let read: BTreeMap<String, Spanned<Value>> = toml::from_str(&text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        Error::invalid_argument(format!("{path}:{}: {}", line(at), e.message()))
    })?;
    let entry = |(key, value): (String, Spanned<Value>)| {
        let origin = Origin::File(path.to_owned(), line(value.span().start));
        (key, (plain(value.get_ref()), origin))
    };
    Ok(read.into_iter().map(entry).collect())
}

fn variable_name(setting: &str) -> String {
    format!("CORACLE_{}", setting.to_uppercase())
}

/// `text` as TOML writes a value of the setting's kind.
fn canonical(setting: &Setting, text: &str) -> Result<String> {
    let wrong =
        |expected: &str| Err(Error::invalid_argument(format!("{} is {text:?}, expected {expected}", setting.name)));
    match setting.kind {
        Kind::Text => Ok(text.to_owned()),
        // TOML's integers have 64 bits and a sign.
        Kind::Number => match text.trim().parse::<i64>() {
            Ok(number) if number >= 0 => Ok(number.to_string()),
            _ => wrong("a number in range"),
        },
        Kind::Signed => match text.trim().parse::<i64>() {
            Ok(number) => Ok(number.to_string()),
            Err(_) => wrong("a number in range"),
        },
        Kind::Fraction => match text.trim().parse::<f64>() {
            Ok(number) if (0.0..=1.0).contains(&number) => Ok(format!("{number:?}")),
            _ => wrong("a number between 0 and 1"),
        },
        Kind::Switch => match truth(text) {
            Some(truth) => Ok(truth.to_string()),
            None => wrong("true or false"),
        },
    }
}

/// What a switch may be called.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
