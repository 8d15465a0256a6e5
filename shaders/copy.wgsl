// Copies a box of elements: y[to + Σ cᵢ·yᵢ] = x[from + Σ cᵢ·xᵢ] for every coordinate c of the box. Concat, Split, Slice,
// Transpose, Expand, Tile and their kind are boxes.
// Grid: linear over the `count` elements of the box, 64 a workgroup.
// uses: index, copy
// target: y
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
// variants: const RANK = 1 2 3 4 8
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = linear_index(group, groups, local, 64u);
    if index < params.count {
        let place = ends(index);
        store(Value(x[place.x]), u32(place.y), 0u);
    }
}
