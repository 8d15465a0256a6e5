//! The constants of one model, wherever they lie.

use std::path::Path;

use super::external::ExternalFiles;
use super::limits::MAX_DENSIFIED_BYTES;
use super::proto::{SparseTensorProto, TensorProto};
use super::{sparse, tensor};
use crate::error::Result;
use crate::tensor::Tensor;

/// Decodes constants, within what one model may take.
#[derive(Debug)]
pub(super) struct Weights {
    files: ExternalFiles,
    dense_budget_bytes: usize,
}

impl Weights {
    /// Constants of a model in `folder`; see [`ExternalFiles::new`].
    pub(super) fn new(folder: &Path, strict_paths: bool) -> Self {
        Self { files: ExternalFiles::new(folder, strict_paths), dense_budget_bytes: MAX_DENSIFIED_BYTES }
    }

    /// A dense constant.
    ///
    /// # Errors
    /// As [`tensor::from_proto`].
    pub(super) fn dense(&mut self, proto: &TensorProto) -> Result<Tensor> {
        tensor::from_proto(proto, Some(&mut self.files))
    }

    /// A sparse constant, made dense.
    ///
    /// # Errors
    /// As [`sparse::densify`].
    pub(super) fn sparse(&mut self, proto: &SparseTensorProto) -> Result<Tensor> {
        sparse::densify(proto, &mut self.dense_budget_bytes)
    }
}
