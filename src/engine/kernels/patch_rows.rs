//! Rows that follow each other without gaps and are no whole vectors of four: vectors of them are put together of those read, and
//! those stored are put together of them.

use std::fmt::Write as _;

use super::patch_tile::COMPONENTS;

/// Rows of `width` elements that follow each other begin at multiples of so many.
fn step(width: u32) -> u32 {
    if width.is_multiple_of(4) {
        4
    } else if width.is_multiple_of(2) {
        2
    } else {
        1
    }
}

/// Vectors of four that may hold some of a row of `width` elements.
pub(super) fn vectors(width: u32) -> u32 {
    (4 - step(width) + width).div_ceil(4)
}

/// Reads a row of `width` elements from element `start{r}` on as `v{r}_0` and so on; behind it the last one holds anything.
pub(super) fn emit_read(text: &mut String, r: u32, width: u32) -> std::fmt::Result {
    let (read, step) = (vectors(width), step(width));
    writeln!(text, "let base{r} = start{r} >> 2u;")?;
    for i in 0..read {
        // What follows the last row of all is not there.
        writeln!(text, "let raw{r}_{i} = x[min(base{r} + {i}u, params.x_last)];")?;
    }
    // By two elements, then by one.
    let raw = |i: u32| if i < read { format!("raw{r}_{i}") } else { "zero".to_owned() };
    writeln!(text, "let two{r} = (start{r} & 2u) != 0u;\nlet one{r} = (start{r} & 1u) != 0u;")?;
    let by_two = if step == 1 { "half" } else { "v" };
    for i in 0..=width.div_ceil(4) {
        let (own, next) = (raw(i), raw(i + 1));
        writeln!(text, "let {by_two}{r}_{i} = select({own}, vec4<f32>({own}.zw, {next}.xy), two{r});")?;
    }
    for i in (0..width.div_ceil(4)).filter(|_| step == 1) {
        let (own, next) = (format!("half{r}_{i}"), format!("half{r}_{}", i + 1));
        writeln!(text, "let v{r}_{i} = select({own}, vec4<f32>({own}.yzw, {next}.x), one{r});")?;
    }
    Ok(())
}

/// Stores the row of `width` elements, at least four, that `o0` and so on hold, from element `line_at` on. `held` is what the patch
/// has made of the four elements before it; the first row of a patch follows another patch's, which stores its own.
pub(super) fn emit_store(text: &mut String, width: u32) -> std::fmt::Result {
    let step = step(width);
    let element = |place: u32| format!("o{}.{}", place / 4, COMPONENTS[place as usize % 4]);
    writeln!(
        text,
        "let behind = line_at & 3u;\nlet two = (behind & 2u) != 0u;\nlet one = (behind & 1u) != 0u;\n\
         let before = select(held.w, held.y, two);"
    )?;
    let full = (4 - step + width) / 4;
    for i in 0..full {
        let previous = if i == 0 { "held".to_owned() } else { format!("o{}", i - 1) };
        writeln!(text, "let w{i} = select(o{i}, vec4<f32>({previous}.zw, o{i}.xy), two);")?;
    }
    for i in (0..full).filter(|_| step == 1) {
        let previous = if i == 0 { "before".to_owned() } else { format!("w{}.w", i - 1) };
        writeln!(text, "let z{i} = select(w{i}, vec4<f32>({previous}, w{i}.xyz), one);")?;
    }
    let vector = if step == 1 { "z" } else { "w" };
    writeln!(
        text,
        "let goal = line_at - behind;\n\
         if row > first_row || behind == 0u {{ store4({vector}0, goal, channel); }} else {{"
    )?;
    for place in (1..4u32).filter(|place| step == 1 || *place > 1) {
        let component = COMPONENTS[place as usize];
        writeln!(text, "if behind <= {place}u {{ store({vector}0.{component}, goal + {place}u, channel); }}")?;
    }
    writeln!(text, "}}")?;
    for i in 1..full {
        let stored = format!("store4({vector}{i}, goal + {}u, channel);", 4 * i);
        match i < width / 4 {
            true => writeln!(text, "{stored}")?,
            false => writeln!(text, "if behind + {}u >= 4u {{ {stored} }}", width % 4)?,
        }
    }
    let last: Vec<String> = (width - 4..width).map(element).collect();
    writeln!(
        text,
        "held = vec4<f32>({});\n\
         if turn + 1u == turns || row + 1u == params.output_y {{\n\
         let left = (behind + {width}u) & 3u;",
        last.join(", ")
    )?;
    for place in 1..4u32 {
        let component = COMPONENTS[4 - place as usize];
        writeln!(text, "if left >= {place}u {{ store(held.{component}, line_at + {}u, channel); }}", width - place)?;
    }
    writeln!(text, "}}")
}
