// A cache with an update written into it: y[b, o, s, i] = update[b, o, s − start[b], i] where that is inside the update, and
// cache[b, o, s, i] elsewhere. With `circular` the place s − start[b] is taken modulo the cache's extent.
// Grid: linear over the elements of y, 64 a workgroup.
// uses: index, place
// target: y
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Index = i32 u32 i64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
struct Params {
    total: u32,
    outer: u32,
    extent: u32,
    length: u32,
    inner: u32,
    circular: u32,
    has_start: u32,
}
@group(0) @binding(0) var<storage, read> cache: array<In>;
@group(0) @binding(1) var<storage, read> update: array<In>;
@group(0) @binding(2) var<storage, read> start: array<Index>;
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
    let inner = at % params.inner;
    let place = at / params.inner % params.extent;
    let row = at / params.inner / params.extent;
    var first = 0;
    if params.has_start != 0u {
        first = as_index(start[row / params.outer]);
    }
    var along = i32(place) - first;
    if params.circular != 0u {
        let extent = i32(params.extent);
        along = ((along % extent) + extent) % extent;
    }
    if along >= 0 && along < i32(params.length) {
        store(Value(update[(row * params.length + u32(along)) * params.inner + inner]), at, 0u);
    } else {
        store(Value(cache[at]), at, 0u);
    }
}
