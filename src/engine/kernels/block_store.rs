//! How a tile is stored: four columns at once from the registers they were summed up in, where they lie side by side; else by way
//! of workgroup memory, some of its rows a turn, so that neighbouring invocations store neighbouring columns.

use std::fmt::Write as _;

use super::block_tile::BlockTile;
use super::product::BiasAccess;

impl BlockTile {
    pub(super) fn emit_stores(&self, text: &mut String) -> std::fmt::Result {
        if self.fours { self.emit_fours(text) } else { self.emit_turns(text) }
    }

    fn emit_fours(&self, text: &mut String) -> std::fmt::Result {
        let [down, across] = self.grid();
        for vector in 0..self.side / 4 {
            writeln!(
                text,
                "let column{vector} = first_column + (own_column + {}u) * 4u;\n\
                 let out{vector} = pixel_out(min(column{vector}, last_column));",
                vector * across
            )?;
        }
        for row in 0..self.side {
            writeln!(
                text,
                "{{\nlet row = first_row + (own_row + {}u) * 4u + {}u;\n\
                 if row < params.rows {{\n\
                 let channel = start.w + row * params.channel_row;",
                row / 4 * down,
                row % 4
            )?;
            for vector in 0..self.side / 4 {
                let stored =
                    self.stored_four(&format!("s{row}_{vector}"), &format!("column{vector}"), &format!("out{vector}"));
                writeln!(text, "{stored}")?;
            }
            writeln!(text, "}}\n}}")?;
        }
        Ok(())
    }

    /// `sums`, of type `values`, as they are passed on: scaled, and with the bias added, which is `by_column` where columns have
    /// their own.
    fn finished(&self, sums: &str, values: &str, by_column: &str) -> String {
        let value = if self.whole { format!("{values}({sums})") } else { format!("{sums} * params.alpha") };
        match self.bias {
            BiasAccess::None => value,
            BiasAccess::Channel => format!("{value} + params.beta * f32(bias[start.w + row])"),
            BiasAccess::Column | BiasAccess::Element => format!("{value} + params.beta * {by_column}"),
        }
    }

    /// What stores vector `sums` of `row` from `column` on, whose place in row 0 is `out`.
    pub(super) fn stored_four(&self, sums: &str, column: &str, out: &str) -> String {
        let one = |i| format!("f32(bias[row * params.bias_row + ({column} + {i}u) * params.bias_column])");
        let biases = format!("vec4<f32>({}, {}, {}, {})", one(0), one(1), one(2), one(3));
        let value = self.finished(sums, "vec4<Value>", &biases);
        format!(
            "if {column} < params.columns {{ store4({value}, start.z + {out} + row * params.y_row, channel + {column} * CHANNELS_VARY); }}"
        )
    }

    /// What stores `sum` of `row` at `column`, whose place in row 0 is `out`.
    pub(super) fn stored_one(&self, column: &str, out: &str) -> String {
        let bias = format!("f32(bias[row * params.bias_row + {column} * params.bias_column])");
        let value = self.finished("sum", "Value", &bias);
        format!(
            "if {column} < params.columns {{ store({value}, start.z + {out} + row * params.y_row, channel + {column} * params.channel_column); }}"
        )
    }

    fn emit_turns(&self, text: &mut String) -> std::fmt::Result {
        self.emit_columns(text)?;
        let ([down, across], columns) = (self.grid(), self.columns);
        writeln!(text, "for (var turn = 0u; turn < {}u; turn++) {{\nswitch turn {{", self.side)?;
        for row in 0..self.side {
            writeln!(text, "{}: {{", case(row, self.side))?;
            for vector in 0..self.side / 4 {
                let at = vector * across;
                writeln!(text, "left[own_row * {}u + own_column + {at}u] = s{row}_{vector};", columns / 4)?;
            }
            writeln!(text, "}}")?;
        }
        writeln!(
            text,
            "}}\nworkgroupBarrier();\nfor (var line = index / {columns}u; line < {down}u; line += {}u) {{\n\
             let row = first_row + (turn / 4u * {down}u + line) * 4u + turn % 4u;\n\
             if row < params.rows {{\n\
             let channel = start.w + row * params.channel_row;",
            self.invocations().div_ceil(columns)
        )?;
        for column in 0..self.stored_columns() {
            let slot = match self.is_spread() {
                true => format!("slot{column} % {}u * 4u + slot{column} / {}u", columns / 4, columns / 4),
                false => format!("slot{column}"),
            };
            writeln!(
                text,
                "{{\nlet held = {slot};\n\
                 let sum = left[line * {}u + held / 4u][held % 4u];\n\
                 {}\n}}",
                columns / 4,
                self.stored_one(&format!("column{column}"), &format!("out{column}"))
            )?;
        }
        writeln!(text, "}}\n}}\nworkgroupBarrier();\n}}")
    }

    /// The columns that an invocation stores, one or several.
    fn stored_columns(&self) -> u32 {
        self.columns.div_ceil(self.invocations())
    }

    fn emit_columns(&self, text: &mut String) -> std::fmt::Result {
        for column in 0..self.stored_columns() {
            writeln!(
                text,
                "let slot{column} = index % {}u + {}u;\n\
                 let column{column} = first_column + slot{column};\n\
                 let out{column} = pixel_out(min(column{column}, last_column));",
                self.columns.min(self.invocations()),
                column * self.invocations()
            )?;
        }
        Ok(())
    }
}

/// The label of turn `turn` among `turns` in a switch.
pub(super) fn case(turn: u32, turns: u32) -> String {
    if turn + 1 == turns { "default".to_owned() } else { format!("case {turn}u") }
}
