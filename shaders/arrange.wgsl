// Lays out windows or matrices for kernels that read vectors of four: y is [entries, images, channels, z, y, x] with rows of a
// multiple of four elements. Element (z, y, x) of a channel is element (z, y, x) × step − pad of x, in steps of `stride`; it is
// zero where that is outside x, and from `width` on.
// entries[i]: the first element of entry i in x.
// Grid: linear over the vectors of y, 64 a workgroup.
// uses: index
struct Params {
    // Vectors of y.
    total: u32,
    // Of a row of y.
    row_vectors: u32,
    width: u32,
    images: u32,
    channels: u32,
    image_stride: u32,
    channel_stride: u32,
    unused: u32,
    // Along z, y, x; the fourth is unused. Steps and padding wrap.
    extent: vec4<u32>,
    input: vec4<u32>,
    step: vec4<u32>,
    pad: vec4<u32>,
    stride: vec4<u32>,
}
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> entries: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = linear_index(group, groups, local, 64u);
    if at >= params.total {
        return;
    }
    let row = quotient(at, params.row_vectors);
    let slice = quotient(row, params.extent.y);
    let plane = quotient(slice, params.extent.x);
    let line = quotient(plane, params.channels);
    let entry = quotient(line, params.images);
    let z = (slice - plane * params.extent.x) * params.step.x - params.pad.x;
    let row_y = (row - slice * params.extent.y) * params.step.y - params.pad.y;
    let column = (at - row * params.row_vectors) * 4u;
    let base = entries[entry] + (line - entry * params.images) * params.image_stride
        + (plane - line * params.channels) * params.channel_stride + z * params.stride.x + row_y * params.stride.y;
    let row_inside = z < params.input.x && row_y < params.input.y;
    var value: vec4<f32>;
    for (var i = 0u; i < 4u; i++) {
        let place = (column + i) * params.step.z - params.pad.z;
        let inside = row_inside && place < params.input.z && column + i < params.width;
        value[i] = select(0.0, x[select(0u, base + place * params.stride.z, inside)], inside);
    }
    y[at] = value;
}
