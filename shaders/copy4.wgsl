// As copy.wgsl by vectors of four elements. TURNED 0: rows of whole vectors stay rows. TURNED 1: squares of four rows of x, a
// vector each, become their columns in y.
// Grid: linear over the `count` vectors of the box, or squares, 64 a workgroup.
// uses: index, copy
// target: y wide
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
// variants: const RANK = 1 2 3 4 8
// variants: const TURNED = 0 1
@group(0) @binding(0) var<storage, read> x: array<vec4<In>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<Out>>;
@group(0) @binding(2) var<uniform> params: Params;

fn put(value: vec4<In>, vector: i32) {
    store4(vec4<Value>(value), u32(vector) * 4u, 0u);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = linear_index(group, groups, local, 64u);
    if index >= params.count {
        return;
    }
    let place = ends(index);
    if TURNED == 0u {
        put(x[place.x], place.y);
        return;
    }
    let row = params.square.x;
    let a = x[place.x];
    let b = x[place.x + row];
    let c = x[place.x + 2 * row];
    let d = x[place.x + 3 * row];
    let column = params.square.y;
    put(vec4<In>(a.x, b.x, c.x, d.x), place.y);
    put(vec4<In>(a.y, b.y, c.y, d.y), place.y + column);
    put(vec4<In>(a.z, b.z, c.z, d.z), place.y + 2 * column);
    put(vec4<In>(a.w, b.w, c.w, d.w), place.y + 3 * column);
}
