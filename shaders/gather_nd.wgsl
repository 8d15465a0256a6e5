// y[b, u, i] = x[b, p(b, u), i]: indices is [batch, tuples, width], a tuple names a place p along the `width` leading axes of an
// entry of x (`places` of them in all), each of which holds `block` elements. Negative indices count from the end; those
// outside are clamped, so that nothing outside x is read.
// Grid: linear over the elements of y, 64 a workgroup.
// uses: index, place
// target: y
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Index = i32 u32 i64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
struct Params {
    total: u32,
    tuples: u32,
    width: u32,
    block: u32,
    places: u32,
    unused_a: u32,
    unused_b: u32,
    unused_c: u32,
    extents: array<vec4<u32>, 2>,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read> indices: array<Index>;
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
    let element = at % params.block;
    let tuple = at / params.block;
    let batch = tuple / params.tuples;
    var place = 0u;
    for (var axis = 0u; axis < params.width; axis += 1u) {
        let extent = params.extents[axis / 4u][axis % 4u];
        var index = as_index(indices[tuple * params.width + axis]);
        if index < 0 {
            index += i32(extent);
        }
        place = place * extent + u32(clamp(index, 0, i32(extent) - 1));
    }
    store(Value(x[(batch * params.places + place) * params.block + element]), at, 0u);
}
