// Maximum or average over sliding windows: x is [planes, iz, iy, ix], y is [planes, oz, oy, ox]. A plane is one channel of
// one batch entry; window elements outside x are skipped.
// MODE 0: maximum, NaN wins. MODE 1: the mean over the elements inside x. MODE 2: the mean over those inside the padded
// extents, whose end `padded` gives (an element past it, reached only by rounding extents up, never counts).
// MODE 3: the place of the maximum in x, counted through all planes, inside a plane with the last axis first if
// columns_first. MODE 4: the norm (Σ |x|^order)^(1 / order) over the elements inside x.
// Grid: linear over the elements of y, 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
// variants: const MODE = 0 1 2 3 4
struct Params {
    total: u32,
    channels: u32,
    // The bits of minus infinity: drivers fold constant infinities away.
    lowest: u32,
    order: f32,
    input: vec4<i32>,
    output: vec4<u32>,
    kernel: vec4<i32>,
    stride: vec4<i32>,
    dilation: vec4<i32>,
    pad: vec4<i32>,
    padded: vec4<i32>,
    columns_first: u32,
    unused_1: u32,
    unused_2: u32,
    unused_3: u32,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<uniform> params: Params;

// a^b for a that is not negative: the orders that models use are exact.
fn power(a: f32, b: f32) -> f32 {
    if b == 1.0 { return a; }
    if b == 2.0 { return a * a; }
    if b == 0.5 { return sqrt(a); }
    return select(pow(a, b), 0.0, a == 0.0);
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
    let column = at % params.output.z;
    let row_index = at / params.output.z;
    let row = row_index % params.output.y;
    let slice_index = row_index / params.output.y;
    let slice = slice_index % params.output.x;
    let plane = slice_index / params.output.x;
    let first = vec3<i32>(i32(slice), i32(row), i32(column)) * params.stride.xyz - params.pad.xyz;
    let base = i32(plane) * params.input.x * params.input.y * params.input.z;
    var best = bitcast<f32>(params.lowest);
    var best_at = vec3<i32>(0, 0, 0);
    var found = false;
    var sum = 0.0;
    var inside = 0;
    var counted = 0;
    for (var kz = 0; kz < params.kernel.x; kz++) {
        let z = first.x + kz * params.dilation.x;
        for (var ky = 0; ky < params.kernel.y; ky++) {
            let row_at = first.y + ky * params.dilation.y;
            for (var kx = 0; kx < params.kernel.z; kx++) {
                let column_at = first.z + kx * params.dilation.z;
                if MODE == 2u && z < params.padded.x && row_at < params.padded.y && column_at < params.padded.z {
                    counted++;
                }
                if z >= 0 && z < params.input.x && row_at >= 0 && row_at < params.input.y
                    && column_at >= 0 && column_at < params.input.z {
                    let value = f32(x[base + (z * params.input.y + row_at) * params.input.z + column_at]);
                    if MODE == 0u || MODE == 3u {
                        let is_nan = (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
                        let best_is_nan = (bitcast<u32>(best) & 0x7fffffffu) > 0x7f800000u;
                        if !found || (!best_is_nan && (is_nan || value > best)) {
                            best = value;
                            best_at = vec3<i32>(z, row_at, column_at);
                            found = true;
                        }
                    } else if MODE == 4u {
                        sum += power(abs(value), params.order);
                    } else {
                        sum += value;
                        inside++;
                    }
                }
            }
        }
    }
    let channel = plane % params.channels;
    if MODE == 0u {
        store(Value(best), at, channel);
    } else if MODE == 1u {
        store(Value(sum / f32(max(inside, 1))), at, channel);
    } else if MODE == 2u {
        store(Value(sum / f32(max(counted, 1))), at, channel);
    } else if MODE == 3u {
        var place = (best_at.x * params.input.y + best_at.y) * params.input.z + best_at.z;
        if params.columns_first == 1u {
            place = (best_at.z * params.input.y + best_at.y) * params.input.x + best_at.x;
        }
        store(Value(select(0, base + place, found)), at, channel);
    } else {
        store(Value(power(sum, 1.0 / params.order)), at, channel);
    }
}
