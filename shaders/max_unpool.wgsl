// Values put back where their maxima were: x is [planes, pixels], y [planes, rz, ry, rx] and 0 elsewhere. An index counts
// through all planes of extents `pooled` (z, y, x), which lie in the corner of those of y.
// MODE 0: zeros. MODE 1: the values, after MODE 0 has run.
// Grid: linear over the elements of y (MODE 0) or x (MODE 1), 64 a workgroup.
// uses: index, place
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Index = i32 u32 i64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
// variants: const MODE = 0 1
struct Params {
    total: u32,
    planes: u32,
    unused_1: u32,
    unused_2: u32,
    pooled: vec4<u32>,
    result: vec4<u32>,
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
    if MODE == 0u {
        y[at] = Out(0);
        return;
    }
    let index = u32(as_index(indices[at]));
    let column = index % params.pooled.z;
    let row_index = index / params.pooled.z;
    let row = row_index % params.pooled.y;
    let slice_index = row_index / params.pooled.y;
    let slice = slice_index % params.pooled.x;
    let plane = slice_index / params.pooled.x;
    let inside = vec3<u32>(slice, row, column) < params.result.xyz;
    if plane < params.planes && all(inside) {
        y[((plane * params.result.x + slice) * params.result.y + row) * params.result.z + column] = Out(x[at]);
    }
}
