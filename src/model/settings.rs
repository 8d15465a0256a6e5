//! What `coracle.toml` beside a model says about how to run it.

use serde::Deserialize;
use std::path::Path;

use super::beside::beside;
use crate::batch::{Priority, Scheduling};
use crate::engine::{LoadOptions, Precision};
use crate::error::{Error, Result};

/// The file's name.
const FILE: &str = "coracle.toml";
/// Bytes that such a file may have.
const MAX_BYTES: u64 = 64 << 10;
/// The largest batch that may be asked for.
const MAX_BATCH: usize = 1 << 16;

/// The largest extent that inputs may be filled up to.
const MAX_EXTENT: usize = 1 << 24;

/// The settings of one model; everything is optional, and what is not known is refused.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `"f32"`: store every float in 32 bits, those of 16-bit models too. `"f16"`: store floats in 16 bits where the adapter
    /// can. `"auto"`: each as the model has it, where the adapter can. Without it as the server's options say.
    pub precision: Option<Named>,
    /// Batch sizes to compile at load, ascending; they go before those of the server's batching parameters.
    #[serde(default)]
    pub batch_sizes: Vec<usize>,
    /// Extents that inputs are filled up to under `pad_variable_length_inputs`, ascending, where the signature leaves them open. They
    /// bound how many shapes are compiled; models whose answers depend on padding answer otherwise than without.
    #[serde(default)]
    pub padded_extents: Vec<usize>,
    /// The axis along which requests for a model exported with batch 1 may be merged: 0. The model is refused when its rows
    /// cannot be proven to stay apart.
    pub batch_axis: Option<usize>,
    /// Its share of device time beside other models, from 0.01 to 100; 1 without it.
    pub weight: Option<f64>,
    /// `"low"`, `"normal"` or `"high"`: how urgent its requests are beside those of other models.
    pub priority: Option<Priority>,
    /// Requests that would be answered later than so many milliseconds after they came are refused; 0: none is. Without it as the
    /// server's options say.
    pub latency_target_ms: Option<u32>,
}

/// A precision as the file spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Named {
    /// As the model has it.
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits.
    F16,
}

impl From<Named> for Precision {
    fn from(named: Named) -> Self {
        match named {
            Named::Auto => Precision::Auto,
            Named::F32 => Precision::F32,
            Named::F16 => Precision::F16,
        }
    }
}

impl Settings {
    /// Those beside the model file or in the version's folder `path`; the defaults where there is no file.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the key or value that is wrong, and what the system reports on reading.
    pub fn beside(path: &Path) -> Result<Self> {
        match beside(path, FILE, MAX_BYTES)? {
            None => Ok(Self::default()),
            Some((file, text)) => Self::read(&text).map_err(|e| e.at(file.display())),
        }
    }

    /// `options` under these settings; batch sizes are left as they are.
    pub fn apply(&self, options: LoadOptions) -> LoadOptions {
        LoadOptions { precision: self.precision.map(Into::into), rebatch: self.batch_axis.is_some(), ..options }
    }

    /// What it is due beside other models, as far as the file says.
    pub fn scheduling(&self) -> Scheduling {
        let Self { weight, priority, latency_target_ms, .. } = *self;
        Scheduling { weight, priority, latency_target_ms }
    }

    /// What a file of this text says.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the key or value that is wrong.
    pub fn read(text: &str) -> Result<Self> {
        let settings: Self = toml::from_str(text).map_err(|e| Error::invalid_argument(e.to_string().trim_end()))?;
        let ascending = settings.batch_sizes.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || settings.batch_sizes.iter().any(|n| *n == 0 || *n > MAX_BATCH) {
            return Err(Error::invalid_argument(format!(
                "batch_sizes {:?} are not ascending numbers from 1 to {MAX_BATCH}",
                settings.batch_sizes
            )));
        }
        let extents = &settings.padded_extents;
        if !extents.is_sorted_by(|a, b| a < b) || extents.iter().any(|n| *n == 0 || *n > MAX_EXTENT) {
            return Err(Error::invalid_argument(format!(
                "padded_extents {extents:?} are not ascending numbers from 1 to {MAX_EXTENT}"
            )));
        }
        if let Some(axis) = settings.batch_axis.filter(|a| *a != 0) {
            return Err(Error::invalid_argument(format!("batch_axis {axis}: requests are merged along axis 0 only")));
        }
        settings.scheduling().checked()?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_what_they_know_and_nothing_else() {
        let settings =
            Settings::read("precision = \"f16\"\nbatch_sizes = [1, 8, 32]\nbatch_axis = 0\n").expect("all keys");
        assert_eq!((settings.precision, settings.batch_axis), (Some(Named::F16), Some(0)));
        assert_eq!(Settings::read("precision = \"auto\"\n").expect("a key").precision, Some(Named::Auto));
        assert_eq!(settings.batch_sizes, [1, 8, 32]);
        assert_eq!(Settings::read("").expect("empty"), Settings::default());
        for (text, named) in [
            ("max_batch = 3", "max_batch"),
            ("precision = \"int8\"", "int8"),
            ("batch_sizes = [4, 2]", "[4, 2]"),
            ("batch_sizes = [0]", "[0]"),
            ("padded_extents = [16, 8]", "[16, 8]"),
            ("padded_extents = [100000000]", "padded_extents"),
            ("batch_axis = 1", "batch_axis 1"),
            ("weight = 0.0", "weight 0"),
            ("weight = nan", "weight NaN"),
            ("priority = \"urgent\"", "urgent"),
            ("latency_target_ms = -1", "latency_target_ms"),
        ] {
            let error = Settings::read(text).expect_err(text);
            assert!(error.message().contains(named), "{error}");
        }
    }

    #[test]
    fn a_file_says_what_its_model_is_due() {
        let of = |text| Settings::read(text).expect(text).scheduling();
        assert_eq!(of(""), Scheduling::default());
        let all = of("weight = 4\npriority = \"high\"\nlatency_target_ms = 50\n");
        let (weight, priority) = (Some(4.0), Some(Priority::High));
        assert_eq!(all, Scheduling { weight, priority, latency_target_ms: Some(50) });
    }

    #[test]
    fn no_file_means_the_defaults() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Settings::beside(folder.path()).expect("no file"), Settings::default());
        std::fs::write(folder.path().join(FILE), "batch_sizes = [2]").expect("writable");
        assert_eq!(Settings::beside(folder.path()).expect("a file").batch_sizes, [2]);
        let error = std::fs::write(folder.path().join(FILE), "colour = 1").map(|()| Settings::beside(folder.path()));
        assert!(error.expect("writable").expect_err("unknown").message().contains("coracle.toml"));
    }
}
