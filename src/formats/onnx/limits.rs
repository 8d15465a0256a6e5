//! What a model file may ask for. Everything is checked before memory is taken for it.

/// Bytes of the model file itself: what protobuf can frame. Larger models keep their weights in other files.
pub(super) const MAX_FILE_BYTES: u64 = i32::MAX as u64;

/// Nodes after local functions are inlined.
pub(super) const MAX_NODES: usize = 1 << 19;

/// Calls of local functions inside each other.
pub(super) const MAX_CALL_DEPTH: usize = 32;

/// Axes of a tensor.
pub(super) const MAX_RANK: usize = 64;

/// Bytes of sparse constants made dense, in one model.
pub(super) const MAX_DENSIFIED_BYTES: usize = 256 << 20;

/// Bytes of names and attributes that inlined calls may add, in one model.
pub(super) const MAX_INLINED_BYTES: usize = 256 << 20;
