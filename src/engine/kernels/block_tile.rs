//! What a kernel for products on GPUs is made for.

use super::product::BiasAccess;
use super::weights::PackedWeights;
use crate::engine::ir::Fragments;

/// Terms of a slice, where invocations sum up products of single numbers.
pub const DEPTH: u32 = 16;

/// Terms of a slice of 16-bit floats that subgroups multiply as one.
const FRAGMENT_DEPTH: u32 = 32;

/// Numbers between the rows of an operand in workgroup memory that fall into other banks than those of the row before.
const PADDING: u32 = 8;

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

/// One of the operands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    Left,
    Right,
}

/// One kernel of the GPU family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockTile {
    /// Rows and columns of the workgroup's tile: multiples of 32 up to 128.
    pub rows: u32,
    /// See `rows`.
    pub columns: u32,
    /// Rows and columns of an invocation: 4 or 8 of each. Nothing where there are fragments.
    pub side: u32,
    /// What subgroups multiply as one, if they do: both operands are 16-bit floats then, none is packed.
    pub fragments: Option<Fragments>,
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
    /// Whether the last slice of the terms (of a tap's channels, where taps are walked) is not whole.
    pub ragged: bool,
    /// Whether the text of a slice's sums stands there once for each four of its terms. GPUs run that a sixth faster than a loop
    /// over them, and it takes longer to compile.
    pub unrolled: bool,
    /// Whether four columns side by side are stored at once: they lie side by side in y, at multiples of four elements, and
    /// there is a multiple of four of them.
    pub fours: bool,
}

impl BlockTile {
    /// Rows, columns and side of the tiles worth having, the largest first.
    pub const SIZES: [(u32, u32, u32); 9] = [
        (128, 128, 8),
        (128, 64, 8),
        (64, 128, 8),
        (64, 64, 8),
        (128, 32, 8),
        (32, 128, 8),
        (64, 32, 8),
        (32, 64, 8),
        (32, 32, 4),
    ];

    /// Rows and columns of those whose subgroups multiply fragments.
    pub const FRAGMENT_SIZES: [(u32, u32); 7] =
        [(128, 128), (128, 64), (64, 128), (64, 64), (64, 32), (32, 64), (32, 32)];

    /// Invocations of a workgroup.
    pub fn invocations(&self) -> u32 {
        self.fragments.map_or_else(|| self.rows / self.side * (self.columns / self.side), Fragments::invocations)
    }

    /// Bytes of workgroup memory, sums being of `sum_bytes` bytes.
    pub fn workgroup_bytes(&self, sum_bytes: u32) -> u32 {
        let slots = if self.walk == Walk::Windows { 20 * self.depth() } else { 0 };
        let vectors = self.held_vectors(Operand::Left) + self.held_vectors(Operand::Right);
        match self.fragments {
            Some(fragments) => vectors * 8 + fragments.staged() * 4 + slots,
            None => vectors * 4 * sum_bytes + slots,
        }
    }

    /// Whether scales or zero points are bound.
    pub fn has_grid(&self) -> bool {
        self.left_packed.iter().chain(&self.right_packed).any(PackedWeights::has_grid)
    }

    /// Terms of a slice.
    pub fn depth(&self) -> u32 {
        if self.fragments.is_some() { FRAGMENT_DEPTH } else { DEPTH }
    }

    /// Invocations along the rows and the columns of the tile.
    pub(super) fn grid(&self) -> [u32; 2] {
        [self.rows / self.side, self.columns / self.side]
    }

    pub(super) fn reach(&self, operand: Operand) -> Reach {
        if operand == Operand::Left { self.left } else { self.right }
    }

    /// Rows of a, columns of b.
    pub(super) fn lines(&self, operand: Operand) -> u32 {
        if operand == Operand::Left { self.rows } else { self.columns }
    }

    /// Whether the operand lies in workgroup memory line by line, vectors holding four terms: as it was read. Else it lies
    /// term by term, vectors holding four lines.
    pub(super) fn is_by_line(&self, operand: Operand) -> bool {
        self.fragments.is_some() && self.reach(operand) == Reach::Terms
    }

    /// Vectors between the lines (or terms) of the operand in workgroup memory.
    pub(super) fn pitch(&self, operand: Operand) -> u32 {
        let padding = if self.fragments.is_some() { PADDING } else { 0 };
        (if self.is_by_line(operand) { self.depth() } else { self.lines(operand) } + padding) / 4
    }

    /// Vectors of the operand in workgroup memory.
    pub(super) fn held_vectors(&self, operand: Operand) -> u32 {
        self.pitch(operand) * if self.is_by_line(operand) { self.lines(operand) } else { self.depth() }
    }

    /// Whether the four columns of a vector lie a quarter of the tile apart: neighbouring invocations read neighbours.
    pub(super) fn is_spread(&self) -> bool {
        self.right == Reach::Single
    }
}
