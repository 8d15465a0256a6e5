//! What becomes of the sums of a product before its epilogue takes them.

use super::product::BiasAccess;

/// How sums are scaled, biased and passed on. `row`, `channel` and `start` are in scope where they are.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    pub(super) bias: BiasAccess,
    /// Whether sums are no 32-bit floats: nothing is scaled or added to them.
    pub(super) whole: bool,
}

impl Finish {
    /// `sums`, of type `values`, as they are passed on: scaled, and with the bias added, which is `by_column` where columns have
    /// their own.
    fn finished(self, sums: &str, values: &str, by_column: &str) -> String {
        let value = if self.whole { format!("{values}({sums})") } else { format!("{sums} * params.alpha") };
        match self.bias {
            BiasAccess::None => value,
            BiasAccess::Channel => format!("{value} + params.beta * f32(bias[start.w + row])"),
            BiasAccess::Column | BiasAccess::Element => format!("{value} + params.beta * {by_column}"),
        }
    }

    /// What stores vector `sums` of `row` from `column` on, whose place in row 0 is `out`.
    pub(super) fn stored_four(self, sums: &str, column: &str, out: &str) -> String {
        let one = |i| format!("f32(bias[row * params.bias_row + ({column} + {i}u) * params.bias_column])");
        let biases = format!("vec4<f32>({}, {}, {}, {})", one(0), one(1), one(2), one(3));
        let value = self.finished(sums, "vec4<Value>", &biases);
        format!(
            "if {column} < params.columns {{ store4({value}, start.z + {out} + row * params.y_row, channel + {column} * CHANNELS_VARY); }}"
        )
    }

    /// What stores `sum` of `row` at `column`, whose place in row 0 is `out`.
    pub(super) fn stored_one(self, column: &str, out: &str) -> String {
        let bias = format!("f32(bias[row * params.bias_row + {column} * params.bias_column])");
        let value = self.finished("sum", "Value", &bias);
        format!(
            "if {column} < params.columns {{ store({value}, start.z + {out} + row * params.y_row, channel + {column} * params.channel_column); }}"
        )
    }
}
