//! In which order the workgroups of a product's kernel make its tiles.

/// Rows of tiles that are walked column by column before the next ones: what neighbouring workgroups read stays in caches.
const BAND: u32 = 8;

/// What opens a workgroup's tile of so many rows and columns: where it begins, or that there is none.
pub(super) fn opening([rows, columns]: [u32; 2]) -> String {
    format!(
        "let tile = group.y * groups.x + group.x;\n\
         let row_tiles = (params.rows + {}u) / {rows}u;\n\
         let column_tiles = (params.columns + {}u) / {columns}u;\n\
         if tile >= row_tiles * column_tiles {{ return; }}\n\
         let band = tile / ({BAND}u * column_tiles) * {BAND}u;\n\
         let inside_band = tile - band * column_tiles;\n\
         let band_rows = min(row_tiles - band, {BAND}u);\n\
         let first_row = (band + inside_band % band_rows) * {rows}u;\n\
         let first_column = inside_band / band_rows * {columns}u;\n\
         let last_row = params.rows - 1u;\n\
         let last_column = params.columns - 1u;\n\
         let start = starts[group.z];",
        rows - 1,
        columns - 1
    )
}
