//! What a model file may ask for. Everything is checked before memory is taken for it.

/// Bytes of the model file itself: what protobuf can frame. Larger models keep their weights in other files.
pub(super) const MAX_FILE_BYTES: u64 = i32::MAX as u64;

/// Nodes after local functions are inlined.
pub(super) const MAX_NODES: usize = 1 << 19;

/// Texts, lists of numbers and messages of a model file, each of which takes up to some hundred bytes in memory.
pub(super) const MAX_PARTS: usize = 16 * MAX_NODES;

/// Graphs inside each other. Decoding bounds messages inside each other to 100: this is less.
pub(super) const MAX_GRAPH_DEPTH: usize = 28;

/// Calls of local functions inside each other.
pub(super) const MAX_CALL_DEPTH: usize = 32;

/// Axes of a tensor.
pub(super) const MAX_RANK: usize = 64;

/// Elements of a tensor, extents of zero counted as one, so that no product of extents overflows.
pub(super) const MAX_ELEMENTS: u64 = 1 << 47;

/// Whether a tensor may have these extents.
pub(super) fn allows(dims: &[u64]) -> bool {
    let elements = dims.iter().try_fold(1u64, |n, d| n.checked_mul((*d).max(1)));
    dims.len() <= MAX_RANK && elements.is_some_and(|n| n <= MAX_ELEMENTS)
}

/// Bytes of sparse constants made dense, in one model.
pub(super) const MAX_DENSIFIED_BYTES: usize = 256 << 20;

/// Bytes of names and attributes that inlined calls may add, in one model.
pub(super) const MAX_INLINED_BYTES: usize = 256 << 20;
