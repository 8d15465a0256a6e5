// Discrete Fourier transforms: y[f, k, i] = scale × Σ over n of w[n] × x[f, n, i] × exp(sign × 2πi × k × n / period).
// x has `in_parts` components (1: real, 2: complex), y `out_parts` (1: the real part). Element (f, n, i) of x starts at
// (f / frames) × outer_stride + (f % frames) × frame_stride + n × tap_stride + i × in_parts; y is [f, count, inner, out_parts].
// `turns` holds cos and sin of 2π × j / period, for j below period, as pairs.
// WINDOW 0: every w is 1 and `window` is not read.
// Grid: linear over the elements of y, 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16
// variants: Win = f32 f16
// variants: const WINDOW = 0 1
struct Params {
    total: u32,
    count: u32,
    period: u32,
    taps: u32,
    inner: u32,
    in_parts: u32,
    out_parts: u32,
    frames: u32,
    outer_stride: u32,
    frame_stride: u32,
    tap_stride: u32,
    scale: f32,
    sign: f32,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read> window: array<Win>;
@group(0) @binding(2) var<storage, read> turns: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<Out>;
@group(0) @binding(4) var<uniform> params: Params;

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
    let part = at % params.out_parts;
    let element = at / params.out_parts;
    let inner = element % params.inner;
    let row = element / params.inner;
    let bin = row % params.count;
    let frame = row / params.count;
    var place = (frame / params.frames) * params.outer_stride + (frame % params.frames) * params.frame_stride
        + inner * params.in_parts;
    // The angle, k × n mod period, goes on by k each step and never needs a division.
    let step = bin % params.period;
    var turn = 0u;
    var sum = 0.0;
    for (var n = 0u; n < params.taps; n++) {
        let cosine = turns[2u * turn];
        let sine = params.sign * turns[2u * turn + 1u];
        let real = f32(x[place]);
        var imaginary = 0.0;
        if params.in_parts == 2u {
            imaginary = f32(x[place + 1u]);
        }
        var term = real * cosine - imaginary * sine;
        if part == 1u {
            term = real * sine + imaginary * cosine;
        }
        if WINDOW == 1u {
            term *= f32(window[n]);
        }
        sum += term;
        place += params.tap_stride;
        turn += step;
        if turn >= params.period {
            turn -= params.period;
        }
    }
    store(params.scale * sum, at, 0u);
}
