//! How to batch: the meaning of TensorFlow Serving's `BatchingParameters`.

use std::time::Duration;

use crate::error::{Error, Result};

/// Settings of one batcher. Unset ones are left to what the model measured when it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Most rows in a batch that requests are merged into; `None`: the largest size compiled for the model.
    pub max_batch_size: Option<usize>,
    /// Longest that the oldest request of an open batch waits for company while a slot is free.
    pub batch_timeout: Duration,
    /// Batches that may wait; beyond it requests are refused.
    pub max_enqueued_batches: usize,
    /// Batches in flight at once; `None`: as many as the engine takes.
    pub num_batch_threads: Option<usize>,
    /// Sizes to pad to, ascending; empty: the sizes compiled for the model.
    pub allowed_batch_sizes: Vec<usize>,
    /// Whether requests larger than a batch are run as several; `None`: they are, though nobody has asked for it.
    pub enable_large_batch_splitting: Option<bool>,
    /// Most rows run at once when requests may be split; `None`: `max_batch_size`.
    pub max_execution_batch_size: Option<usize>,
    /// Whether requests of different extents behind axis 0 share batches, padded to the largest of each batch.
    pub pad_variable_length_inputs: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            max_batch_size: None,
            batch_timeout: Duration::ZERO,
            max_enqueued_batches: 1024,
            num_batch_threads: None,
            allowed_batch_sizes: Vec::new(),
            enable_large_batch_splitting: None,
            max_execution_batch_size: None,
            pad_variable_length_inputs: false,
        }
    }
}

impl Parameters {
    /// The same settings once they are known to agree with each other.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the setting and its value.
    pub fn validated(mut self) -> Result<Self> {
        if self.max_batch_size == Some(0) {
            return Err(Error::invalid_argument("max_batch_size must be positive; was 0"));
        }
        if self.num_batch_threads == Some(0) {
            return Err(Error::invalid_argument("num_batch_threads must be positive; was 0"));
        }
        if !self.allowed_batch_sizes.is_sorted_by(|a, b| a < b) || self.allowed_batch_sizes.first() == Some(&0) {
            return Err(Error::invalid_argument(format!(
                "allowed_batch_sizes must be positive and ascending; were {:?}",
                self.allowed_batch_sizes
            )));
        }
        if let (Some(last), Some(execution)) = (self.allowed_batch_sizes.last(), self.execution_rows_max())
            && *last != execution
        {
            return Err(Error::invalid_argument(format!(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was {last}; expected {execution}"
            )));
        }
        if let (Some(execution), Some(batch)) = (self.max_execution_batch_size, self.max_batch_size)
            && (execution == 0 || execution > batch)
        {
            return Err(Error::invalid_argument(format!(
                "max_execution_batch_size must be between 1 and max_batch_size; was {execution}, max_batch_size is {batch}"
            )));
        }
        self.max_enqueued_batches = self.max_enqueued_batches.max(1);
        Ok(self)
    }

    /// Whether requests larger than a batch are run as several.
    pub fn divides(&self) -> bool {
        self.enable_large_batch_splitting.unwrap_or(true)
    }

    /// Most rows that may be run at once, where it is set.
    pub fn execution_rows_max(&self) -> Option<usize> {
        match self.max_execution_batch_size {
            Some(rows) if self.divides() => Some(rows),
            _ => self.max_batch_size,
        }
    }

    /// The batch sizes to make ready, ascending: the allowed ones, or powers of two up to the largest batch and that itself.
    /// Empty when neither is set.
    pub fn batch_sizes(&self) -> Vec<usize> {
        match self.execution_rows_max() {
            Some(rows_max) if self.allowed_batch_sizes.is_empty() => Self::doubled(rows_max),
            _ => self.allowed_batch_sizes.clone(),
        }
    }

    /// Powers of two below `rows_max`, and that itself.
    pub fn doubled(rows_max: usize) -> Vec<usize> {
        let doubled = std::iter::successors(Some(1usize), |size| size.checked_mul(2));
        doubled.take_while(|size| *size < rows_max).chain([rows_max]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Parameters;

    #[test]
    fn the_last_allowed_size_is_the_largest_batch() {
        let parameters =
            Parameters { max_batch_size: Some(32), allowed_batch_sizes: vec![8, 16], ..Parameters::default() };
        let error = parameters.clone().validated().expect_err("16 is not 32");
        assert_eq!(
            error.message(),
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 16; expected 32"
        );
        assert!(Parameters { max_batch_size: Some(16), ..parameters.clone() }.validated().is_ok());
        let split = Parameters { max_execution_batch_size: Some(16), ..parameters };
        assert_eq!(split.validated().expect("16 rows are run at most").execution_rows_max(), Some(16));
    }

    #[test]
    fn sizes_to_compile_end_with_the_largest_batch() {
        let sizes = |max| Parameters { max_batch_size: max, ..Parameters::default() }.batch_sizes();
        assert_eq!(sizes(Some(24)), [1, 2, 4, 8, 16, 24]);
        assert_eq!(sizes(Some(1)), [1]);
        assert!(sizes(None).is_empty());
    }

    #[test]
    fn sizes_must_be_usable() {
        for sizes in [vec![0, 4], vec![4, 4], vec![8, 4]] {
            assert!(Parameters { allowed_batch_sizes: sizes, ..Parameters::default() }.validated().is_err());
        }
        let none = Parameters { max_enqueued_batches: 0, ..Parameters::default() };
        assert_eq!(none.validated().expect("0 is taken as 1").max_enqueued_batches, 1);
    }
}
