// y = alpha × a·b + beta × bias for every batch entry (see lib/product.wgsl), for GPUs, where a has few rows: ROWS at most.
// Every element of b is read once, by neighbouring invocations side by side, four at a time.
// ALONG: 0 when b's columns lie side by side, 1 when its terms and those of a do; both in fours, at multiples of four elements.
// A workgroup computes 32 columns or 8; 32 lanes share the terms of each, and sums meet in workgroup memory.
// BIAS: 0 none, 1 by channel (starts[z].w + row), 2 by bias_row and bias_column.
// Grid: workgroups over x and y (linear), batch entries over z.
// uses: index, product
// target: y
// variants: Left = f32 f16
// variants: Right = f32 f16
// variants: Bias = f32 f16
// variants: Out = f32 f16
// variants: const BIAS = 0 1 2
// variants: const ROWS = 1 2 4
// variants: const ALONG = 0 1
@group(0) @binding(0) var<storage, read> a: array<Left>;
@group(0) @binding(1) var<storage, read> b: array<vec4<Right>>;
@group(0) @binding(2) var<storage, read> bias: array<Bias>;
@group(0) @binding(3) var<storage, read> starts: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> y: array<Out>;
@group(0) @binding(5) var<uniform> params: Params;

const LANES = 32u;
// Sums of a lane for one row.
const WIDTH = 32u - 24u * ALONG;
var<workgroup> sums: array<f32, LANES * ROWS * WIDTH>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let first_column = (group.y * groups.x + group.x) * WIDTH;
    if first_column >= params.columns {
        return;
    }
    let start = starts[group.z];
    let last_row = params.rows - 1u;
    if ALONG == 0u {
        let vector = index % 8u;
        let lane = index / 8u;
        let pixel = pixel_at(min(first_column + vector * 4u, params.columns - 4u));
        let first = start.y + pixel.image * params.b_image + input_offset(corner_of(pixel));
        var partial: array<vec4<f32>, ROWS>;
        for (var k = lane; k < params.channels; k += LANES) {
            let values = vec4<f32>(b[(first + k * params.b_channel) >> 2u]);
            for (var row = 0u; row < ROWS; row++) {
                let x = f32(a[start.x + min(row, last_row) * params.a_row + k * params.a_channel]);
                partial[row] = fma(vec4<f32>(x), values, partial[row]);
            }
        }
        for (var row = 0u; row < ROWS; row++) {
            let to = (lane * ROWS + row) * WIDTH + vector * 4u;
            sums[to] = partial[row].x;
            sums[to + 1u] = partial[row].y;
            sums[to + 2u] = partial[row].z;
            sums[to + 3u] = partial[row].w;
        }
    } else {
        let lane = index % LANES;
        let own = index / LANES;
        let pixel = pixel_at(min(first_column + own, params.columns - 1u));
        let first = start.y + pixel.image * params.b_image + input_offset(corner_of(pixel));
        var partial: array<f32, ROWS>;
        for (var k = lane * 4u; k < params.channels; k += LANES * 4u) {
            let values = vec4<f32>(b[(first + k) >> 2u]);
            for (var row = 0u; row < ROWS; row++) {
                let at = start.x + min(row, last_row) * params.a_row + k * params.a_channel;
                let step = params.a_channel;
                let x = vec4<Left>(a[at], a[at + step], a[at + 2u * step], a[at + 3u * step]);
                partial[row] += dot(vec4<f32>(x), values);
            }
        }
        for (var row = 0u; row < ROWS; row++) {
            sums[(lane * ROWS + row) * WIDTH + own] = partial[row];
        }
    }
    workgroupBarrier();

    let row = index / WIDTH;
    let column = first_column + index % WIDTH;
    if row >= min(ROWS, params.rows) || column >= params.columns {
        return;
    }
    var sum = 0.0;
    for (var lane = 0u; lane < LANES; lane++) {
        sum += sums[(lane * ROWS + row) * WIDTH + index % WIDTH];
    }
    var value = sum * params.alpha;
    if BIAS == 1u {
        value += params.beta * f32(bias[start.w + row]);
    } else if BIAS == 2u {
        value += params.beta * f32(bias[row * params.bias_row + column * params.bias_column]);
    }
    let channel = start.w + row * params.channel_row + column * params.channel_column;
    store(value, start.z + output_offset(pixel_at(column)) + row * params.y_row, channel);
}
