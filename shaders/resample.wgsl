// y[o, j, i] = constant(j) + Σ over taps t of weight(j, t) × x[o, index(j, t), i]: x is [outer, extent, inner], y is
// [outer, count, inner]. A row of the table holds the bits of the constant, then `taps` pairs of index and weight's bits;
// pairs of weight 0 fill it up and are not read.
// Grid: linear over the elements of y, 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16
struct Params {
    total: u32,
    extent: u32,
    count: u32,
    inner: u32,
    taps: u32,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<Out>;
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
    let row = at / params.inner;
    let inner = at - row * params.inner;
    let outer = row / params.count;
    var entry = (row - outer * params.count) * (1u + 2u * params.taps);
    var sum = bitcast<f32>(table[entry]);
    for (var tap = 0u; tap < params.taps; tap += 1u) {
        let index = table[entry + 1u];
        let bits = table[entry + 2u];
        if bits != 0u {
            sum += bitcast<f32>(bits) * f32(x[(outer * params.extent + index) * params.inner + inner]);
        }
        entry += 2u;
    }
    store(Value(sum), at, 0u);
}
