// The problem that every matrix-product kernel solves, for each batch entry z:
//   y(row, column) = alpha × Σ over channels, taps of a(row, channel, tap) × b(channel, tap, column) + beta × bias
// A column is an output pixel of an image; a tap moves its window over the input. A plain product has one tap, its columns
// are pixels of one image of one row. Vectors hold x, y, z from the innermost axis out; unused axes have extent 1.
struct Params {
    rows: u32,
    columns: u32,
    channels: u32,
    taps: u32,
    // Elements between rows and channels of a, images and channels of b.
    a_row: u32,
    a_channel: u32,
    b_image: u32,
    b_channel: u32,
    // Elements of a between taps.
    a_tap: vec4<u32>,
    // Taps along each axis.
    kernel: vec4<u32>,
    // Extents of an input channel.
    input: vec4<u32>,
    // Input steps between output pixels, before the first one, between taps. Negative ones wrap.
    stride: vec4<u32>,
    pad: vec4<u32>,
    dilation: vec4<u32>,
    // Extents of the output; w: their product.
    output: vec4<u32>,
    // Elements of y between pixels; w: between images.
    y_step: vec4<u32>,
    // Of packed weights: terms that share scales, entries of the grid between those, where its zero points start.
    grid: vec4<u32>,
    y_row: u32,
    // Elements of bias between rows and columns.
    bias_row: u32,
    bias_column: u32,
    // 1 where rows (columns) are the epilogue's channels.
    channel_row: u32,
    channel_column: u32,
    alpha: f32,
    beta: f32,
    unused: u32,
}

// An output pixel.
struct Pixel {
    x: u32,
    y: u32,
    z: u32,
    image: u32,
}

fn pixel_at(column: u32) -> Pixel {
    let image = quotient(column, params.output.w);
    let inside = column - image * params.output.w;
    let line = quotient(inside, params.output.x);
    let z = quotient(line, params.output.y);
    return Pixel(inside - line * params.output.x, line - z * params.output.y, z, image);
}

// The pixel after `p` when `advance` holds, else `p`: divisions are slow, neighbours are cheap.
fn pixel_after(p: Pixel, advance: bool) -> Pixel {
    let x = p.x + u32(advance);
    let x_ends = x == params.output.x;
    let y = p.y + u32(x_ends);
    let y_ends = y == params.output.y;
    let z = p.z + u32(y_ends);
    let z_ends = z == params.output.z;
    return Pixel(select(x, 0u, x_ends), select(y, 0u, y_ends), select(z, 0u, z_ends), p.image + u32(z_ends));
}

// Where the window of a pixel starts in the input.
fn corner_of(p: Pixel) -> vec3<u32> {
    return vec3<u32>(p.x, p.y, p.z) * params.stride.xyz - params.pad.xyz;
}

fn is_inside(at: vec3<u32>) -> bool {
    return at.x < params.input.x && at.y < params.input.y && at.z < params.input.z;
}

fn input_offset(at: vec3<u32>) -> u32 {
    return (at.z * params.input.y + at.y) * params.input.x + at.x;
}

// The element of y that row 0 of a pixel goes to, relative to the batch entry.
fn output_offset(p: Pixel) -> u32 {
    let step = params.y_step;
    return p.x * step.x + p.y * step.y + p.z * step.z + p.image * step.w;
}

// The same for a column.
fn pixel_out(column: u32) -> u32 {
    return output_offset(pixel_at(column));
}
