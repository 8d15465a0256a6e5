// As resample.wgsl, four elements an invocation, where `inner` is a multiple of four.
// Grid: linear over the vectors of y, 64 a workgroup.
// uses: index
// target: y wide
// variants: Out = f32
struct Params {
    vectors: u32,
    extent: u32,
    count: u32,
    inner_vectors: u32,
    taps: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> table: array<u32>;
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
    let row = quotient(at, params.inner_vectors);
    let inner = at - row * params.inner_vectors;
    let outer = quotient(row, params.count);
    var entry = (row - outer * params.count) * (1u + 2u * params.taps);
    var sum = vec4<f32>(bitcast<f32>(table[entry]));
    for (var tap = 0u; tap < params.taps; tap += 1u) {
        let index = table[entry + 1u];
        let bits = table[entry + 2u];
        if bits != 0u {
            sum += bitcast<f32>(bits) * x[(outer * params.extent + index) * params.inner_vectors + inner];
        }
        entry += 2u;
    }
    store4(sum, at * 4u, 0u);
}
