// Convolution over planes where every output channel reads one input channel: y(plane, row, column) =
// bias(channel) + Σ over KERNEL_Y × KERNEL_X taps. Each invocation makes a patch of ROWS × COLUMNS outputs, so that an
// input element is loaded once for all windows of the patch that hold it. Outside the input is zero. EXACT says that
// patches fill the output.
// Grid: linear over patches, columns innermost, then rows, then planes; GROUP a workgroup.
// uses: index
// target: y
// variants: In = f32 f16
// variants: Weight = f32 f16
// variants: Bias = f32 f16
// variants: const BIAS = 0 1
// variants: const EXACT = 0 1
// variants: const GROUP = 8
// variants: const KERNEL_Y = 1 3
// variants: const KERNEL_X = 3
// variants: const STRIDE_Y = 2
// variants: const STRIDE_X = 1
// variants: const ROWS = 4
// variants: const COLUMNS = 7
struct Params {
    patches: u32,
    patches_x: u32,
    patches_y: u32,
    channels: u32,
    // Output channels that read the same input channel.
    multiplier: u32,
    input_y: u32,
    input_x: u32,
    output_y: u32,
    output_x: u32,
    pad_y: u32,
    pad_x: u32,
}
const SPAN_Y: u32 = (ROWS - 1u) * STRIDE_Y + KERNEL_Y;
const SPAN_X: u32 = (COLUMNS - 1u) * STRIDE_X + KERNEL_X;

@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read> weights: array<Weight>;
@group(0) @binding(2) var<storage, read> bias: array<Bias>;
@group(0) @binding(3) var<storage, read_write> y: array<Out>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let patch_index = linear_index(group, groups, local, GROUP);
    if patch_index >= params.patches {
        return;
    }
    let line = quotient(patch_index, params.patches_x);
    let plane = quotient(line, params.patches_y);
    let first_column = (patch_index - line * params.patches_x) * COLUMNS;
    let first_row = (line - plane * params.patches_y) * ROWS;
    let channel = plane - quotient(plane, params.channels) * params.channels;
    let source = quotient(plane, params.multiplier) * params.input_y;

    var taps: array<f32, KERNEL_Y * KERNEL_X>;
    for (var i = 0u; i < KERNEL_Y * KERNEL_X; i++) {
        taps[i] = f32(weights[channel * KERNEL_Y * KERNEL_X + i]);
    }
    var sums: array<f32, ROWS * COLUMNS>;
    if BIAS == 1u {
        for (var i = 0u; i < ROWS * COLUMNS; i++) {
            sums[i] = f32(bias[channel]);
        }
    }
    let left = first_column * STRIDE_X - params.pad_x;
    let top = first_row * STRIDE_Y - params.pad_y;
    for (var r = 0u; r < SPAN_Y; r++) {
        let row_inside = top + r < params.input_y;
        let start = (source + select(0u, top + r, row_inside)) * params.input_x;
        var values: array<f32, SPAN_X>;
        for (var q = 0u; q < SPAN_X; q++) {
            let inside = row_inside && left + q < params.input_x;
            values[q] = select(0.0, f32(x[start + select(0u, left + q, inside)]), inside);
        }
        for (var row = 0u; row < ROWS; row++) {
            let tap = r - row * STRIDE_Y;
            if tap < KERNEL_Y {
                for (var column = 0u; column < COLUMNS; column++) {
                    for (var k = 0u; k < KERNEL_X; k++) {
                        let i = row * COLUMNS + column;
                        sums[i] = fma(taps[tap * KERNEL_X + k], values[column * STRIDE_X + k], sums[i]);
                    }
                }
            }
        }
    }
    for (var row = 0u; row < ROWS; row++) {
        for (var column = 0u; column < COLUMNS; column++) {
            if EXACT == 1u || (first_row + row < params.output_y && first_column + column < params.output_x) {
                let at = (plane * params.output_y + first_row + row) * params.output_x + first_column + column;
                store(sums[row * COLUMNS + column], at, channel);
            }
        }
    }
}
