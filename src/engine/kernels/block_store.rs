//! How a tile is stored: four columns at once from the registers they were summed up in, where they lie side by side; else by way
//! of workgroup memory, some of its rows a turn, so that neighbouring invocations store neighbouring columns.

use std::fmt::Write as _;

use super::block_tile::BlockTile;
use super::finish::Finish;

impl BlockTile {
    pub(super) fn finish(&self) -> Finish {
        Finish { bias: self.bias, whole: self.whole }
    }

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
                let (sums, column, out) =
                    (format!("s{row}_{vector}"), format!("column{vector}"), format!("out{vector}"));
                let stored = self.finish().stored_four(&sums, &column, &out);
                writeln!(text, "{stored}")?;
            }
            writeln!(text, "}}\n}}")?;
        }
        Ok(())
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
                self.finish().stored_one(&format!("column{column}"), &format!("out{column}"))
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
