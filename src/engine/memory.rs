//! How much device memory there is, and which part of it models may take.

use super::device::Adapter;
use crate::error::{Error, Result};

/// Which memory all models together may take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryBound {
    /// How much there is.
    pub total: MemoryTotal,
    /// The part of it that models may take, above 0 and at most 1; `None`: all.
    pub fraction: Option<f64>,
}

/// How much device memory there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryTotal {
    /// No bound is kept, and fractions have no meaning.
    #[default]
    Unbounded,
    /// So many bytes.
    Bytes(u64),
    /// What the adapter tells: the largest heap of its own. Those that the processor stands in for have the machine's.
    Adapter {
        /// Bytes that the process may use of the machine's memory, if known.
        host_bytes: Option<u64>,
    },
}

/// What one model may take of it, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MemoryShare {
    /// At most so much of the total; `None`: what is free.
    pub fraction: Option<f64>,
    /// Taken when needed, not reserved when the model is loaded.
    pub grows: bool,
}

impl MemoryBound {
    /// Bytes that there are, if known.
    pub(super) fn total(&self, adapter: &Adapter) -> Option<u64> {
        match self.total {
            MemoryTotal::Unbounded => None,
            MemoryTotal::Bytes(bytes) => Some(bytes),
            MemoryTotal::Adapter { host_bytes } if adapter.is_software() => host_bytes,
            MemoryTotal::Adapter { .. } => adapter.memory_bytes(),
        }
    }

    /// An equal part for each of so many engines that have the memory of `adapter` in common.
    pub fn divided(&self, adapter: &Adapter, engines: u64) -> Self {
        let part = self.total(adapter).filter(|_| engines > 1).map(|bytes| MemoryTotal::Bytes(bytes / engines));
        Self { total: part.unwrap_or(self.total), fraction: self.fraction }
    }

    /// Bytes that may be taken of `total`; `None` for any number.
    pub(super) fn limit(&self, total: Option<u64>) -> Result<Option<u64>> {
        match self.fraction {
            None => Ok(total),
            Some(fraction) => part(total, fraction).map(Some),
        }
    }
}

/// That part of `total`, in bytes.
///
/// # Errors
/// `FAILED_PRECONDITION` where the total is not known.
pub(super) fn part(total: Option<u64>, fraction: f64) -> Result<u64> {
    let total = total.ok_or_else(|| {
        Error::failed_precondition(format!(
            "per_process_gpu_memory_fraction is {fraction}, but the adapter does not tell its memory: expected \
             device_memory_bytes beside it"
        ))
    })?;
    Ok((total as f64 * fraction) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn fractions_are_of_what_is_known() {
        let bound = MemoryBound { fraction: Some(0.25), ..MemoryBound::default() };
        assert_eq!(bound.limit(Some(1000)).expect("a quarter"), Some(250));
        assert_eq!(bound.limit(None).expect_err("of what?").code(), Code::FailedPrecondition);
        assert_eq!(MemoryBound::default().limit(Some(7)).expect("all"), Some(7));
        assert_eq!(MemoryBound::default().limit(None).expect("no bound"), None);
    }

    #[test]
    fn adapters_tell_their_total_and_software_ones_the_machines() {
        let total = MemoryTotal::Adapter { host_bytes: Some(123) };
        for adapter in Adapter::all() {
            let told = MemoryBound { total, fraction: None }.total(&adapter);
            assert_eq!(told, if adapter.is_software() { Some(123) } else { adapter.memory_bytes() });
            let bound = MemoryBound { total: MemoryTotal::Bytes(5), fraction: Some(0.5) };
            assert_eq!(bound.total(&adapter), Some(5));
            assert_eq!(bound.divided(&adapter, 2), MemoryBound { total: MemoryTotal::Bytes(2), ..bound.clone() });
            assert_eq!(bound.divided(&adapter, 1), bound);
        }
    }
}
