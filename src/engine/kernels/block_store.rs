//! How a tile is stored: by way of workgroup memory, some of its rows a turn, so that neighbouring invocations store neighbouring
//! columns, and the text of a store stands there once for all rows.

use std::fmt::Write as _;

use super::block_tile::BlockTile;
use super::product::BiasAccess;

impl BlockTile {
    pub(super) fn emit_stores(&self, text: &mut String) -> std::fmt::Result {
        self.emit_columns(text)?;
        let [down, across] = self.grid();
        writeln!(text, "for (var turn = 0u; turn < {}u; turn++) {{\nswitch turn {{", self.side)?;
        for row in 0..self.side {
            writeln!(text, "{}: {{", case(row, self.side))?;
            for vector in 0..self.side / 4 {
                let (line, at) = (self.columns / 4, vector * across);
                writeln!(text, "left[own_row * {line}u + own_column + {at}u] = s{row}_{vector};")?;
            }
            writeln!(text, "}}")?;
        }
        writeln!(text, "}}")?;
        let row = format!("first_row + (turn / 4u * {down}u + line) * 4u + turn % 4u");
        self.emit_lines(text, down, &row, &format!("left[line * {}u + held / 4u][held % 4u]", self.columns / 4))?;
        writeln!(text, "}}")
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
                 let out{column} = start.z + output_offset(pixel_at(min(column{column}, last_column)));",
                self.columns.min(self.invocations()),
                column * self.invocations()
            )?;
        }
        Ok(())
    }

    /// Stores `lines` lines that lie in workgroup memory: `sum` is the one of column `held` in line `line`, of row `row`.
    pub(super) fn emit_lines(&self, text: &mut String, lines: u32, row: &str, sum: &str) -> std::fmt::Result {
        let columns = self.columns;
        writeln!(
            text,
            "workgroupBarrier();\nfor (var line = index / {columns}u; line < {lines}u; line += {}u) {{\n\
             let row = {row};\n\
             if row < params.rows {{\n\
             let channel = start.w + row * params.channel_row;",
            self.invocations().div_ceil(columns)
        )?;
        for column in 0..self.stored_columns() {
            let slot = match self.is_spread() {
                true => format!("slot{column} % {}u * 4u + slot{column} / {}u", columns / 4, columns / 4),
                false => format!("slot{column}"),
            };
            let bias = match self.bias {
                BiasAccess::None => String::new(),
                BiasAccess::Channel => " + params.beta * f32(bias[start.w + row])".to_owned(),
                BiasAccess::Column | BiasAccess::Element => {
                    format!(" + params.beta * f32(bias[row * params.bias_row + column{column} * params.bias_column])")
                }
            };
            let value = if self.whole { "Value(sum)".to_owned() } else { format!("sum * params.alpha{bias}") };
            writeln!(
                text,
                "if column{column} < params.columns {{\n\
                 let held = {slot};\n\
                 let sum = {sum};\n\
                 store({value}, out{column} + row * params.y_row, channel + column{column} * params.channel_column);\n}}"
            )?;
        }
        writeln!(text, "}}\n}}\nworkgroupBarrier();")
    }
}

/// The label of turn `turn` among `turns` in a switch.
pub(super) fn case(turn: u32, turns: u32) -> String {
    if turn + 1 == turns { "default".to_owned() } else { format!("case {turn}u") }
}
