//! What a kernel for products on GPUs is made for.

use super::product::BiasAccess;
use super::weights::PackedWeights;

/// Terms of a slice.
pub const DEPTH: u32 = 16;

/// How an operand is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Element by element.
    Single,
    /// Four lines side by side at once, at multiples of four elements.
    Lines,
    /// Four terms side by side at once, at multiples of four elements, and as many as make whole fours.
    Terms,
}

/// How the terms are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Walk {
    /// There is one tap: along the channels.
    Channels,
    /// Along the channels of one tap after the other.
    Taps,
    /// Along the taps of one channel after the other: less is wasted where there are few channels.
    Windows,
}

/// One kernel of the GPU family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockTile {
    /// Rows and columns of the workgroup's tile: multiples of 32 up to 128.
    pub rows: u32,
    /// See `rows`.
    pub columns: u32,
    /// Rows and columns of an invocation: 4 or 8 of each.
    pub side: u32,
    /// How a is read.
    pub left: Reach,
    /// How b is.
    pub right: Reach,
    /// How a is restored from packed integers, if it is. It is read element by element then.
    pub left_packed: Option<PackedWeights>,
    /// How b is.
    pub right_packed: Option<PackedWeights>,
    /// How the terms are walked.
    pub walk: Walk,
    /// Whether windows may reach outside the input.
    pub padded: bool,
    /// Whether a and b are arrays of one type, so that their elements are carried as they are.
    pub alike: bool,
    /// How the bias is added.
    pub bias: BiasAccess,
    /// Whether sums are no 32-bit floats: nothing is scaled or added to them.
    pub whole: bool,
}

impl BlockTile {
    /// Rows, columns and side of the tiles worth having, the largest first.
    pub const SIZES: [(u32, u32, u32); 7] =
        [(128, 128, 8), (128, 64, 8), (64, 128, 8), (64, 64, 8), (128, 32, 8), (32, 128, 8), (32, 32, 4)];

    /// Invocations of a workgroup.
    pub fn invocations(&self) -> u32 {
        self.rows / self.side * (self.columns / self.side)
    }

    /// Bytes of workgroup memory, sums being of `sum_bytes` bytes.
    pub fn workgroup_bytes(&self, sum_bytes: u32) -> u32 {
        let slots = if self.walk == Walk::Windows { 20 * DEPTH } else { 0 };
        (self.rows + self.columns) * DEPTH * sum_bytes + slots
    }

    /// Whether scales or zero points are bound.
    pub fn has_grid(&self) -> bool {
        self.left_packed.iter().chain(&self.right_packed).any(PackedWeights::has_grid)
    }

    /// Invocations along the rows and the columns of the tile.
    pub(super) fn grid(&self) -> [u32; 2] {
        [self.rows / self.side, self.columns / self.side]
    }
}
