// What a deformable convolution multiplies its weights with (Dai et al., 2017; Zhu et al., 2019): bilinear samples of x
// [batch, channels, rows, columns] where each tap's offset moves it to, times the tap's mask; zeros lie outside x.
// offset is [batch, offset_groups, taps, 2, pixels], y before x; mask [batch, offset_groups, taps, pixels];
// y is [batch, channels, taps, pixels]. MASKED 0: `mask` is not read.
// Vectors hold y, x. Grid: linear over the elements of y, 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16
// variants: const MASKED = 0 1
struct Params {
    total: u32,
    channels: u32,
    taps: u32,
    pixels: u32,
    offset_groups: u32,
    channels_per_offset: u32,
    kernel_x: u32,
    output_x: u32,
    input: vec4<i32>,
    stride: vec4<i32>,
    pad: vec4<i32>,
    dilation: vec4<i32>,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read> offset: array<In>;
@group(0) @binding(2) var<storage, read> mask: array<In>;
@group(0) @binding(3) var<storage, read_write> y: array<Out>;
@group(0) @binding(4) var<uniform> params: Params;

fn element(base: i32, row: i32, column: i32) -> f32 {
    if row < 0 || row >= params.input.x || column < 0 || column >= params.input.y {
        return 0.0;
    }
    return f32(x[base + row * params.input.y + column]);
}

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
    let pixel = at % params.pixels;
    let row = at / params.pixels;
    let tap = row % params.taps;
    let plane = row / params.taps;
    let channel = plane % params.channels;
    let image = plane / params.channels;
    let entry = (image * params.offset_groups + channel / params.channels_per_offset) * params.taps + tap;
    let corner = vec2<i32>(vec2<u32>(pixel / params.output_x, pixel % params.output_x)) * params.stride.xy - params.pad.xy;
    let step = vec2<i32>(vec2<u32>(tap / params.kernel_x, tap % params.kernel_x)) * params.dilation.xy;
    let moved = vec2<f32>(
        f32(offset[2u * entry * params.pixels + pixel]),
        f32(offset[(2u * entry + 1u) * params.pixels + pixel]),
    );
    let place = clamp(vec2<f32>(corner + step) + moved, vec2<f32>(-1.0e9, -1.0e9), vec2<f32>(1.0e9, 1.0e9));
    let low = floor(place);
    let part = place - low;
    let near = vec2<i32>(low);
    let base = i32(plane) * params.input.x * params.input.y;
    let top = (1.0 - part.y) * element(base, near.x, near.y) + part.y * element(base, near.x, near.y + 1);
    let bottom = (1.0 - part.y) * element(base, near.x + 1, near.y) + part.y * element(base, near.x + 1, near.y + 1);
    var value = (1.0 - part.x) * top + part.x * bottom;
    if MASKED == 1u {
        value *= f32(mask[entry * params.pixels + pixel]);
    }
    store(Value(value), at, 0u);
}
