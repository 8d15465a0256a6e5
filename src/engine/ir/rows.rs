//! Where the rows of a batch are inside a value: the proof that requests may be merged.

use super::fact::Fact;

/// How a value relates to the rows (requests' items) of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// The same whatever the batch holds and however long it is.
    Constant,
    /// Depends on how many rows there are, not on what they hold (shape arithmetic).
    Counted,
    /// Axis `axis` holds, `outer` times over, all rows in order, `per_row` consecutive entries for each; the entries of a row
    /// depend on that row alone.
    Along {
        /// The axis that the rows are laid along.
        axis: usize,
        /// Entries of that axis for each row: 1 unless a reshape folded a later axis in.
        per_row: usize,
        /// How often the axis goes through the rows: 1 unless a reshape folded an earlier axis in.
        outer: usize,
    },
    /// Rows influence each other, or it cannot be shown that they do not.
    Mixed,
}

impl Rows {
    /// Rows along axis 0, one entry each: what inputs have and outputs must have.
    pub const LEADING: Rows = Rows::along(0);

    /// One entry of `axis` for each row.
    pub const fn along(axis: usize) -> Rows {
        Rows::Along { axis, per_row: 1, outer: 1 }
    }

    /// The same rows when `axes` axes come before.
    pub fn moved_by(self, axes: usize) -> Rows {
        match self {
            Rows::Along { axis, .. } => self.moved_to(axis + axes),
            other => other,
        }
    }

    /// The same rows along another axis.
    pub fn moved_to(self, axis: usize) -> Rows {
        match self {
            Rows::Along { per_row, outer, .. } => Rows::Along { axis, per_row, outer },
            other => other,
        }
    }
}

/// One node's question: given the rows of the inputs, where are those of the outputs? Shapes are concrete, for a batch of
/// `batch` rows, a number that no model has as an extent of its own.
#[derive(Debug)]
pub struct RowsQuery<'a> {
    /// The rows of each input; absent optional inputs are [`Rows::Constant`].
    pub rows: &'a [Rows],
    /// The facts of each input.
    pub inputs: &'a [Option<&'a Fact>],
    /// The facts of each output.
    pub outputs: &'a [Fact],
    /// How many rows the batch has.
    pub batch: usize,
}

impl RowsQuery<'_> {
    /// The answer for every output.
    pub fn all(&self, rows: Rows) -> Vec<Rows> {
        vec![rows; self.outputs.len()]
    }

    /// The answer that is right for any operator: no rows in, none out; otherwise mixed.
    pub fn default_answer(&self) -> Vec<Rows> {
        let rows = if self.rows.iter().all(|r| *r == Rows::Constant) {
            Rows::Constant
        } else if self.rows.iter().all(|r| matches!(r, Rows::Constant | Rows::Counted)) {
            Rows::Counted
        } else {
            Rows::Mixed
        };
        self.all(rows)
    }

    /// For operators that treat the entries of axis 0 of input 0 alike and apart (convolution, pooling): rows stay leading
    /// when every other input is constant.
    pub fn leading_of_first(&self) -> Vec<Rows> {
        match self.rows.split_first() {
            Some((rows @ Rows::Along { axis: 0, .. }, rest)) if rest.iter().all(|r| *r == Rows::Constant) => {
                self.all(*rows)
            }
            _ => self.default_answer(),
        }
    }

    /// For elementwise operators with numpy broadcasting: all inputs that hold rows hold them along the same output axis,
    /// and constants do not reach along it (an extent of 1, or none, there).
    pub fn elementwise(&self) -> Vec<Rows> {
        let Some(rank) = self.outputs.first().and_then(Fact::rank) else { return self.default_answer() };
        let mut found: Option<Rows> = None;
        for (rows, fact) in self.rows.iter().zip(self.inputs) {
            let Some(input_rank) = fact.and_then(Fact::rank) else { continue };
            match *rows {
                // An operand of more axes than the result is none that broadcasts.
                Rows::Along { .. } if input_rank > rank => return self.all(Rows::Mixed),
                Rows::Along { axis, .. } => {
                    let aligned = rows.moved_to(axis + rank - input_rank);
                    if found.is_some_and(|f| f != aligned) {
                        return self.all(Rows::Mixed);
                    }
                    found = Some(aligned);
                }
                Rows::Mixed => return self.all(Rows::Mixed),
                Rows::Constant | Rows::Counted => {}
            }
        }
        let Some(rows @ Rows::Along { axis, .. }) = found else { return self.default_answer() };
        let reaches_along = |fact: &Fact| {
            let input_rank = fact.rank().unwrap_or(0);
            (axis + input_rank)
                .checked_sub(rank)
                .and_then(|i| fact.dims.as_ref().and_then(|d| d[i].fixed()))
                .is_some_and(|extent| extent != 1)
        };
        let constants_fit = self.rows.iter().zip(self.inputs).all(|(rows, fact)| match (rows, fact) {
            (Rows::Counted, _) => false,
            (Rows::Constant, Some(fact)) => !reaches_along(fact),
            _ => true,
        });
        self.all(if constants_fit { rows } else { Rows::Mixed })
    }

    /// For operators that work along some axes of input 0 and keep the others in place (softmax, reductions with kept
    /// axes, resize): rows survive when they lie along none of `touched`.
    pub fn except_axes(&self, touched: &[usize]) -> Vec<Rows> {
        match self.rows.split_first() {
            Some((rows @ Rows::Along { axis, .. }, rest))
                if !touched.contains(axis) && rest.iter().all(|r| *r == Rows::Constant) =>
            {
                self.all(*rows)
            }
            _ => self.default_answer(),
        }
    }

    /// Where the rows of `indices` into an axis of `per_row` entries a row are, if each row's reach that row's entries alone: along
    /// an axis where those of row *r* are what row 0's are, `r × per_row` further on.
    pub fn rows_of_indices(&self, indices: &[i64], shape: &[usize], per_row: usize) -> Option<Rows> {
        let stays = |axis: usize| {
            let (extent, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
            let each = extent / self.batch;
            indices.iter().enumerate().all(|(i, index)| {
                let row = i / inner % extent / each;
                let first = indices[i - row * each * inner];
                (0..per_row as i64).contains(&first) && *index == first + (row * per_row) as i64
            })
        };
        let fits = |axis: &usize| shape[*axis] > 0 && shape[*axis].is_multiple_of(self.batch) && stays(*axis);
        let axis = (0..shape.len()).find(fits)?;
        Some(Rows::Along { axis, per_row: shape[axis] / self.batch, outer: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_of_each_row_stay_in_it() {
        let query = RowsQuery { rows: &[], inputs: &[], outputs: &[], batch: 3 };
        let found = |indices: [i64; 6]| query.rows_of_indices(&indices, &[1, 3, 2], 4);
        assert_eq!(found([3, 0, 7, 4, 11, 8]), Some(Rows::along(1)));
        assert_eq!(found([3, 0, 7, 4, 11, 9]), None);
        assert_eq!(found([4, 0, 8, 4, 12, 8]), None);
    }
}
