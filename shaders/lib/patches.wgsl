// The problem of windows over planes whose rows are whole vectors of four: every output channel reads one input channel.
// Weights of a channel, if there are any, are whole vectors, zeros at their ends.
struct Params {
    patches: u32,
    patches_x: u32,
    patches_y: u32,
    // Rows of a patch.
    rows: u32,
    channels: u32,
    // Output channels that read the same input channel.
    multiplier: u32,
    input_y: u32,
    // Vectors of a row of x, of which the last one may be cut off after `width` elements.
    input_x: u32,
    width: u32,
    // Vectors of x before the first one, and between images, planes and rows: elements where rows begin anywhere.
    x_first: u32,
    x_image: u32,
    x_plane: u32,
    x_row: u32,
    // The last vector of x.
    x_last: u32,
    output_y: u32,
    output_x: u32,
    // Elements of y before the first one, and between images, planes and rows.
    y_first: u32,
    y_image: u32,
    y_plane: u32,
    y_row: u32,
    pad_y: u32,
    // The bits of minus infinity: drivers fold constant infinities away.
    lowest: u32,
}
