//! How product kernels read a side of packed integers, as text.

use crate::engine::ir::Packing;

/// A side of a product that is read from packed integers, restored as (code − zero) × scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackedWeights {
    /// How the integers lie.
    pub packing: Packing,
    /// Whether they are multiplied by scales.
    pub has_scales: bool,
    /// Whether zero points are taken from them first.
    pub has_zeros: bool,
    /// Whether there are scales or zero points for each block of terms rather than once.
    pub blocked: bool,
}

impl PackedWeights {
    /// Whether there is a grid to read.
    pub fn has_grid(&self) -> bool {
        self.has_scales || self.has_zeros
    }

    /// `codes`, WGSL of type `vector`, restored by variables `scale…` and `zero…` named with `place`.
    pub(super) fn restored(&self, codes: &str, vector: &str, place: &str) -> String {
        let mut text = format!("{vector}({codes})");
        if self.has_zeros {
            text = format!("({text} - zero{place})");
        }
        if self.has_scales {
            text.push_str(&format!(" * scale{place}"));
        }
        text
    }

    /// Declares the variables that [`PackedWeights::restored`] names, of type `vector`: entry `at` of the grid, whose zero
    /// points start at `zeros`.
    pub(super) fn grid(&self, vector: &str, place: &str, at: &str, zeros: &str) -> String {
        let mut text = String::new();
        if self.has_scales {
            text.push_str(&format!("let scale{place} = {vector}(grid[{at}]);\n"));
        }
        if self.has_zeros {
            text.push_str(&format!("let zero{place} = {vector}(grid[{zeros} + {at}]);\n"));
        }
        text
    }

    /// Four integers of variable `word`, from the one at bit `first` on.
    pub(super) fn four(&self, word: &str, first: u32) -> String {
        let place = |i: u32| self.packing.extract(word, &format!("{}u", first + i * self.packing.bits));
        format!("vec4({}, {}, {}, {})", place(0), place(1), place(2), place(3))
    }
}
