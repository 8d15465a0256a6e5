// Maximum or average over sliding windows: x is [planes, iz, iy, ix], y is [planes, oz, oy, ox]. A plane is one channel of
// one batch entry; window elements outside x are skipped.
// MODE 0: maximum, NaN wins. MODE 1: the mean over the elements inside x. MODE 2: the mean over those inside the padded
// extents, whose end `padded` gives (an element past it, reached only by rounding extents up, never counts).
// Grid: linear over the elements of y, 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16
// variants: const MODE = 0 1 2
struct Params {
    total: u32,
    channels: u32,
    // The bits of minus infinity: drivers fold constant infinities away.
    lowest: u32,
    unused: u32,
    input: vec4<i32>,
    output: vec4<u32>,
    kernel: vec4<i32>,
    stride: vec4<i32>,
    dilation: vec4<i32>,
    pad: vec4<i32>,
    padded: vec4<i32>,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<uniform> params: Params;

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
                    if MODE == 0u {
                        let is_nan = (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
                        let best_is_nan = (bitcast<u32>(best) & 0x7fffffffu) > 0x7f800000u;
                        if !best_is_nan && (is_nan || value > best) {
                            best = value;
                        }
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
        store(best, at, channel);
    } else if MODE == 1u {
        store(sum / f32(max(inside, 1)), at, channel);
    } else {
        store(sum / f32(max(counted, 1)), at, channel);
    }
}
