// y[o, j, i] = x[o, indices[j], i]: x is [outer, extent, inner], y is [outer, count, inner]. Negative indices count from
// the end; those outside are clamped, so that nothing outside x is read. BITS: 0, or the bits of the integers that x is
// packed of, the first of a word in its lowest bits, the highest one a sign where SIGNED is 1.
// Grid: linear over the elements of y, 64 a workgroup.
// uses: index, place
// target: y
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Index = i32 u32 i64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
// variants: const BITS = 0 4 8
// variants: const SIGNED = 0 1
struct Params {
    total: u32,
    extent: u32,
    count: u32,
    inner: u32,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read> indices: array<Index>;
@group(0) @binding(2) var<storage, read_write> y: array<Out>;
@group(0) @binding(3) var<uniform> params: Params;

fn element(i: u32) -> Value {
    if BITS == 0u {
        return Value(x[i]);
    }
    let count = 32u / max(BITS, 1u);
    let word = u32(x[i / count]);
    let shift = i % count * BITS;
    if SIGNED == 1u {
        return Value(extractBits(bitcast<i32>(word), shift, BITS));
    }
    return Value(extractBits(word, shift, BITS));
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
    let inner = at % params.inner;
    let row = at / params.inner;
    let outer = row / params.count;
    var index = as_index(indices[row - outer * params.count]);
    if index < 0 {
        index += i32(params.extent);
    }
    let chosen = u32(clamp(index, 0, i32(params.extent) - 1));
    store(element((outer * params.extent + chosen) * params.inner + inner), at, 0u);
}
