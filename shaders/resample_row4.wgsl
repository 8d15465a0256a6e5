// As resample.wgsl, four elements an invocation, where `inner` is 1 and `count` a multiple of four. What it says of one row of the
// table stands here for four, side by side in vectors: constants, then indices and weights of each tap.
// Grid: linear over the vectors of y, 64 a workgroup.
// uses: index
// target: y wide
// variants: Out = f32
struct Params {
    vectors: u32,
    extent: u32,
    row_vectors: u32,
    taps: u32,
}
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> table: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<Out>>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = linear_index(group, groups, local, 64u);
    if at >= params.vectors {
        return;
    }
    let line = quotient(at, params.row_vectors);
    let base = line * params.extent;
    var entry = (at - line * params.row_vectors) * (1u + 2u * params.taps);
    var sum = bitcast<vec4<f32>>(table[entry]);
    for (var tap = 0u; tap < params.taps; tap += 1u) {
        let index = table[entry + 1u];
        let bits = table[entry + 2u];
        let values = vec4<f32>(x[base + index.x], x[base + index.y], x[base + index.z], x[base + index.w]);
        sum += select(vec4<f32>(), bitcast<vec4<f32>>(bits) * values, bits != vec4<u32>());
        entry += 2u;
    }
    store4(sum, at * 4u, 0u);
}
