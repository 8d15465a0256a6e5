// The problem that every span kernel solves, for each batch entry z:
//   y(row, column) = alpha × Σ over lines, channels, taps of a(row, line, channel, tap) × x(line, channel, column × STRIDE + tap × DILATION) + beta × bias
// Rows of x are spans of vectors of four elements, so that a few reads hold what all taps of neighbouring columns need. Columns
// come in groups of neighbours in one row of the output, of which the last may be cut off.
// Extents and strides of x and a count vectors of four, those of y elements.
struct Params {
    rows: u32,
    // Tiles of rows that a workgroup makes, one after the other: its columns of x then come from a cache.
    turns: u32,
    // Groups of columns in all images.
    groups: u32,
    channels: u32,
    // Taps along y and z together, and along y.
    lines: u32,
    kernel_y: u32,
    // Groups in a row of the output, rows in a slice, slices in an image.
    row_groups: u32,
    out_y: u32,
    out_z: u32,
    // Columns in a row.
    width: u32,
    // Between rows of a, and between lines.
    a_row: u32,
    a_line: u32,
    // Between images, channels, and the inputs of neighbouring output rows and slices.
    x_image: u32,
    x_channel: u32,
    x_row: u32,
    x_slice: u32,
    // Added to where a tile of columns starts, where tiles lie one behind the other.
    x_tile: u32,
    // Between taps along y and z.
    x_tap_y: u32,
    x_tap_z: u32,
    // The last vector of x: what lies behind it is read for columns that are cut off only.
    x_last: u32,
    // Between rows of the product, and between columns, rows, slices and images of the output.
    y_row: u32,
    y_column: u32,
    y_line: u32,
    y_slice: u32,
    y_image: u32,
    // Between rows and columns of bias.
    bias_row: u32,
    bias_column: u32,
    // 1 where rows are the epilogue's channels; elsewhere columns are, or none.
    channel_row: u32,
    alpha: f32,
    beta: f32,
    // Rows and columns of zeros around planes of y.
    border: u32,
}

// A group of columns.
struct Group {
    // In its row.
    place: u32,
    line: u32,
    slice: u32,
    image: u32,
}

fn group_at(index: u32) -> Group {
    let row = quotient(index, params.row_groups);
    let plane = quotient(row, params.out_y);
    let image = quotient(plane, params.out_z);
    return Group(index - row * params.row_groups, row - plane * params.out_y, plane - image * params.out_z, image);
}
