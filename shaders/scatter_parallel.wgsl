// Updates written into y, which holds a copy of the data, all at once: y[p(k), i] = updates[k, i], where tuple k of `width`
// indices names a place p over axes of `extents`, `block` elements a place. Negative indices count from the end; updates outside
// are left out. Of several updates of one place any one stays.
// Grid: linear over the updates' elements, 64 a workgroup.
// uses: index, place
// target: y
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Index = i32 u32 i64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
struct Params {
    total: u32,
    width: u32,
    block: u32,
    unused: u32,
    extents: array<vec4<u32>, 2>,
}
@group(0) @binding(0) var<storage, read> updates: array<In>;
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
    let tuple = at / params.block;
    var place = 0u;
    for (var axis = 0u; axis < params.width; axis += 1u) {
        let extent = params.extents[axis / 4u][axis % 4u];
        var index = as_index(indices[tuple * params.width + axis]);
        if index < 0 {
            index += i32(extent);
        }
        if index < 0 || index >= i32(extent) {
            return;
        }
        place = place * extent + u32(index);
    }
    store(Value(updates[at]), place * params.block + at % params.block, 0u);
}
