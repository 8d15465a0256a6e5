//! What a workgroup carries from storage through registers into its memory: four terms of four lines at a time.

use std::fmt::Write as _;

use super::block_tile::{BlockTile, Operand, Reach, Walk};

/// Opens the terms of the next slice, one an invocation: where they lie in a and b, and how far their taps move a window.
const WINDOWS: &str = "fn open_term(slot: u32, k: u32) {
let term = min(k, params.channels * params.taps - 1u);
let channel = term / params.taps;
let place = term - channel * params.taps;
let line = place / params.kernel.x;
let plane = line / params.kernel.y;
let tap = vec3<u32>(place - line * params.kernel.x, line - plane * params.kernel.y, plane);
let moved = tap * params.dilation.xyz;
left_terms[slot] = channel * params.a_channel + dot(tap, params.a_tap.xyz);
right_terms[slot] = vec4<u32>(moved, channel * params.b_channel + input_offset(moved));
}
";

impl BlockTile {
    /// What windows need to know of the terms of a slice.
    pub(super) fn emit_windows(&self, text: &mut String) -> std::fmt::Result {
        let terms = self.depth();
        write!(
            text,
            "var<workgroup> left_terms: array<u32, {terms}>;\nvar<workgroup> right_terms: array<vec4<u32>, {terms}>;\n{WINDOWS}"
        )
    }

    /// Patches of four terms of four lines each in a slice of the operand.
    fn patches(&self, operand: Operand) -> u32 {
        self.lines(operand) * self.depth() / 16
    }

    /// Of such patches, those of a before those of b: how many an invocation carries.
    fn parts(&self) -> u32 {
        (self.patches(Operand::Left) + self.patches(Operand::Right)).div_ceil(self.invocations())
    }

    /// Writes what `emit` gives for the operands that invocations carry as part `part`.
    fn for_part(
        &self,
        text: &mut String,
        part: u32,
        emit: impl Fn(&mut String, Operand) -> std::fmt::Result,
    ) -> std::fmt::Result {
        let (first, end) = (part * self.invocations(), (part + 1) * self.invocations());
        let (rows, columns) = (self.patches(Operand::Left), self.patches(Operand::Right));
        if end <= rows {
            writeln!(text, "{{")?;
            emit(text, Operand::Left)?;
            return writeln!(text, "}}");
        }
        if first < rows {
            writeln!(text, "if index < {}u {{", rows - first)?;
            emit(text, Operand::Left)?;
            write!(text, "}} else ")?;
        }
        if end > rows + columns {
            write!(text, "if index < {}u ", rows + columns - first)?;
        }
        writeln!(text, "{{")?;
        emit(text, Operand::Right)?;
        writeln!(text, "}}")
    }

    /// Vectors of lines of the operand.
    fn vectors(&self, operand: Operand) -> u32 {
        self.lines(operand) / 4
    }

    /// Whether neighbouring invocations carry neighbouring terms rather than neighbouring lines. In workgroup memory their
    /// vectors are shuffled then, lest all fall into one bank.
    pub(super) fn is_turned(&self, operand: Operand) -> bool {
        self.reach(operand) == Reach::Terms || (self.reach(operand) == Reach::Single && operand == Operand::Left)
    }

    /// Whether taps need the corners of windows.
    fn has_corners(&self) -> bool {
        self.walk != Walk::Channels && self.padded
    }

    /// What each part is, and where it is found.
    pub(super) fn emit_places(&self, text: &mut String) -> std::fmt::Result {
        for part in 0..self.parts() {
            writeln!(text, "var term{part} = 0u;\nvar vector{part} = 0u;\nvar place{part} = vec4<u32>();")?;
            if self.has_corners() {
                for line in 0..4 {
                    writeln!(text, "var corner{part}_{line} = vec3<u32>();")?;
                }
                writeln!(text, "var window{part} = vec4<u32>();\nvar inside{part} = 0u;")?;
            }
            if self.left_packed.or(self.right_packed).is_some() {
                writeln!(text, "var unit{part} = vec4<u32>();")?;
            }
            for term in 0..4 {
                writeln!(text, "var u{part}_{term} = vec4<Carried>();")?;
            }
            self.for_part(text, part, |text, operand| self.emit_place(text, part, operand))?;
        }
        Ok(())
    }

    fn emit_place(&self, text: &mut String, part: u32, operand: Operand) -> std::fmt::Result {
        let (vectors, rows) = (self.vectors(operand), self.patches(Operand::Left));
        let first = part * self.invocations();
        match operand {
            Operand::Left => writeln!(text, "let at = index + {first}u;")?,
            Operand::Right if first >= rows => writeln!(text, "let at = index + {}u;", first - rows)?,
            Operand::Right => writeln!(text, "let at = index - {}u;", rows - first)?,
        }
        if self.is_turned(operand) {
            let fours = self.depth() / 4;
            writeln!(text, "term{part} = at % {fours}u * 4u;\nvector{part} = at / {fours}u;")?;
        } else {
            writeln!(text, "term{part} = at / {vectors}u * 4u;\nvector{part} = at % {vectors}u;")?;
        }
        // Lines past the end are read as the last one; nothing comes of them.
        let (tile, last, extent) = match operand {
            Operand::Left => ("first_row", "last_row", "params.rows"),
            Operand::Right => ("first_column", "last_column", "params.columns"),
        };
        if self.reach(operand) == Reach::Lines {
            writeln!(text, "let line = min({tile} + vector{part} * 4u, {extent} - 4u);")?;
            return match operand {
                Operand::Left => writeln!(text, "place{part}.x = start.x + line;"),
                Operand::Right => writeln!(
                    text,
                    "let pixel = pixel_at(line);\n\
                     place{part}.x = start.y + pixel.image * params.b_image + input_offset(corner_of(pixel));"
                ),
            };
        }
        for line in 0..4 {
            let within = match operand {
                Operand::Right if self.is_spread() => format!("vector{part} + {}u", line * vectors),
                _ => format!("vector{part} * 4u + {line}u"),
            };
            writeln!(text, "let line{line} = min({tile} + {within}, {last});")?;
            match operand {
                Operand::Left => {
                    writeln!(text, "place{part}[{line}] = start.x + line{line} * params.a_row;")?;
                    if self.left_packed.is_some() {
                        writeln!(text, "unit{part}[{line}] = start.w + line{line};")?;
                    }
                }
                Operand::Right => {
                    writeln!(
                        text,
                        "let pixel{line} = pixel_at(line{line});\n\
                         let home{line} = corner_of(pixel{line});\n\
                         place{part}[{line}] = start.y + pixel{line}.image * params.b_image + input_offset(home{line});"
                    )?;
                    if self.has_corners() {
                        writeln!(text, "corner{part}_{line} = home{line};")?;
                    }
                    if self.right_packed.is_some() {
                        writeln!(text, "unit{part}[{line}] = line{line};")?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What loads the slice from term `k` on. Terms past the end are read as the last one.
    pub(super) fn emit_loads(&self, text: &mut String) -> std::fmt::Result {
        if self.walk == Walk::Taps {
            writeln!(
                text,
                "let left_tap = dot(tap, params.a_tap.xyz);\n\
                 let moved = tap * params.dilation.xyz;\n\
                 let right_tap = input_offset(moved);"
            )?;
        }
        for part in 0..self.parts() {
            self.for_part(text, part, |text, operand| self.emit_load(text, part, operand))?;
        }
        Ok(())
    }

    fn emit_load(&self, text: &mut String, part: u32, operand: Operand) -> std::fmt::Result {
        let (array, side) = if operand == Operand::Left { ("a", "left") } else { ("b", "right") };
        let tap = if self.walk == Walk::Taps { format!("{side}_tap + ") } else { String::new() };
        if self.reach(operand) == Reach::Terms {
            match self.ragged {
                true => writeln!(text, "let at = {tap}min(k + term{part}, terms - 4u);")?,
                false => writeln!(text, "let at = {tap}k + term{part};")?,
            }
            for line in 0..4 {
                writeln!(text, "u{part}_{line} = vec4<Carried>({array}[(place{part}[{line}] + at) >> 2u]);")?;
            }
            return Ok(());
        }
        let gathers = operand == Operand::Right && self.has_corners();
        if gathers && self.walk == Walk::Taps {
            writeln!(text, "if k == 0u {{\ninside{part} = 0u;")?;
            for line in 0..4 {
                writeln!(
                    text,
                    "let within{line} = is_inside(corner{part}_{line} + moved);\n\
                     window{part}[{line}] = select(start.y, place{part}[{line}] + right_tap, within{line});\n\
                     inside{part} |= select(0u, {}u, within{line});",
                    0x1111u32 << line
                )?;
            }
            writeln!(text, "}}")?;
        }
        if gathers && self.walk == Walk::Windows {
            writeln!(text, "inside{part} = 0u;")?;
        }
        for term in 0..4 {
            match self.walk {
                Walk::Windows => writeln!(text, "let at{term} = {side}_terms[term{part} + {term}u];")?,
                _ if self.ragged => writeln!(text, "let channel{term} = min(k + term{part} + {term}u, last_term);")?,
                _ => writeln!(text, "let channel{term} = k + term{part} + {term}u;")?,
            }
            let step = match (self.walk, operand) {
                (Walk::Windows, Operand::Left) => format!("at{term}"),
                (Walk::Windows, Operand::Right) => format!("at{term}.w"),
                (_, Operand::Right) if gathers => format!("channel{term} * params.b_channel"),
                (_, Operand::Left) => format!("{tap}channel{term} * params.a_channel"),
                (_, Operand::Right) => format!("{tap}channel{term} * params.b_channel"),
            };
            if self.reach(operand) == Reach::Lines {
                writeln!(text, "u{part}_{term} = vec4<Carried>({array}[(place{part}.x + {step}) >> 2u]);")?;
                continue;
            }
            let mut values = Vec::new();
            for line in 0..4 {
                let mut at = format!("place{part}[{line}] + {step}");
                if gathers && self.walk == Walk::Taps {
                    at = format!("window{part}[{line}] + {step}");
                } else if gathers {
                    let name = format!("inside{term}_{line}");
                    writeln!(
                        text,
                        "let {name} = is_inside(corner{part}_{line} + at{term}.xyz);\n\
                         inside{part} |= select(0u, {}u, {name});",
                        1u32 << (4 * term + line)
                    )?;
                    at = format!("select(start.y, {at}, {name})");
                }
                values.push(self.element(operand, &at, part, term, line));
            }
            writeln!(text, "u{part}_{term} = vec4<Carried>({});", values.join(", "))?;
        }
        Ok(())
    }

    /// Element `at` of an operand that is read one by one.
    fn element(&self, operand: Operand, at: &str, part: u32, term: u32, line: u32) -> String {
        match operand {
            Operand::Left if self.left_packed.is_some() => format!("left_at({at}, unit{part}[{line}])"),
            Operand::Left => format!("Carried(a[{at}])"),
            Operand::Right => match self.right_packed {
                Some(packed) if packed.blocked => {
                    format!("right_at({at}, channel{term} / params.grid.x * params.grid.y + unit{part}[{line}])")
                }
                Some(_) => format!("right_at({at}, unit{part}[{line}])"),
                None => format!("Carried(b[{at}])"),
            },
        }
    }

    /// The functions that read packed operands: element `at` by entry `unit` of the grid.
    pub(super) fn emit_restoring(&self, text: &mut String) -> std::fmt::Result {
        for (side, array, packed) in [("left", "a", self.left_packed), ("right", "b", self.right_packed)] {
            let Some(packed) = packed else { continue };
            let code = packed.packing.element(array, "at");
            writeln!(
                text,
                "fn {side}_at(at: u32, unit: u32) -> Sum {{\n{}return {};\n}}",
                packed.grid("Sum", "", "unit", "params.grid.z"),
                packed.restored(&code, "Sum", "")
            )?;
        }
        Ok(())
    }

    /// Lays the loaded slice in workgroup memory.
    pub(super) fn emit_hand_over(&self, text: &mut String) -> std::fmt::Result {
        for part in 0..self.parts() {
            self.for_part(text, part, |text, operand| match self.is_by_line(operand) {
                true => self.emit_lines_over(text, part, operand),
                false => self.emit_terms_over(text, part, operand),
            })?;
        }
        Ok(())
    }

    /// Vectors of four terms, as they were read.
    fn emit_lines_over(&self, text: &mut String, part: u32, operand: Operand) -> std::fmt::Result {
        let pitch = self.pitch(operand);
        writeln!(text, "let to = vector{part} * {}u + term{part} / 4u;", 4 * pitch)?;
        for line in 0..4 {
            let value = self.within(&format!("vec4<Held>(u{part}_{line})"), &format!("term{part}"));
            self.emit_held(text, operand, &format!("to + {}u", line * pitch), &value)?;
        }
        Ok(())
    }

    /// Vectors of four lines.
    fn emit_terms_over(&self, text: &mut String, part: u32, operand: Operand) -> std::fmt::Result {
        let pitch = self.pitch(operand);
        let shuffled = if self.is_turned(operand) && self.fragments.is_none() {
            format!("(vector{part} ^ (term{part} >> 1u))")
        } else {
            format!("vector{part}")
        };
        writeln!(text, "let to = term{part} * {pitch}u + {shuffled};")?;
        for term in 0..4u32 {
            let mut value = format!("vec4<Held>(u{part}_{term})");
            if self.reach(operand) == Reach::Terms {
                let lines: Vec<String> = (0..4).map(|line| format!("u{part}_{line}[{term}]")).collect();
                value = format!("vec4<Held>(vec4<Carried>({}))", lines.join(", "));
            }
            if operand == Operand::Right && self.has_corners() {
                let bits: Vec<String> = (0..4).map(|line| format!("{}u", 1u32 << (4 * term + line))).collect();
                let bits = bits.join(", ");
                value = format!(
                    "select(vec4<Held>(), {value}, (vec4<u32>(inside{part}) & vec4<u32>({bits})) != vec4<u32>())"
                );
            }
            let value = self.within(&value, &format!("term{part} + {term}u"));
            self.emit_held(text, operand, &format!("to + {}u", term * pitch), &value)?;
        }
        Ok(())
    }

    /// `value`, or zeros where there is no such term of the slice.
    fn within(&self, value: &str, term: &str) -> String {
        if self.ragged { format!("select(vec4<Held>(), {value}, {term} < rest)") } else { value.to_owned() }
    }

    /// Writes a vector to workgroup memory.
    fn emit_held(&self, text: &mut String, operand: Operand, at: &str, value: &str) -> std::fmt::Result {
        let side = if operand == Operand::Left { "left" } else { "right" };
        if self.fragments.is_none_or(|f| f.wide) {
            return writeln!(text, "{side}[{at}] = {value};");
        }
        writeln!(text, "{{\nlet value = {value};")?;
        for i in 0..4 {
            writeln!(text, "{side}[({at}) * 4u + {i}u] = value[{i}];")?;
        }
        writeln!(text, "}}")
    }
}
