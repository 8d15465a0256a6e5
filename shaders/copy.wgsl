// Copies a box of elements: y[to + Σ cᵢ·yᵢ] = x[from + Σ cᵢ·xᵢ] for every coordinate c of the box.
// The box has RANK axes, outermost first; strides are signed, in elements. Concat, Split, Slice, Transpose, Expand, Tile and
// their kind are boxes.
// Grid: linear over the `count` elements of the box, 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
// variants: const RANK = 1 2 3 4 8
struct Params {
    count: u32,
    from_offset: i32,
    to_offset: i32,
    unused: u32,
    extents: array<vec4<u32>, 2>,
    from_strides: array<vec4<i32>, 2>,
    to_strides: array<vec4<i32>, 2>,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    var rest = linear_index(group, groups, local, 64u);
    if rest >= params.count {
        return;
    }
    var source = params.from_offset;
    var target_index = params.to_offset;
    for (var i = 0u; i + 1u < RANK; i++) {
        let axis = RANK - 1u - i;
        let extent = params.extents[axis / 4u][axis % 4u];
        let next = rest / extent;
        let coordinate = i32(rest - next * extent);
        source += coordinate * params.from_strides[axis / 4u][axis % 4u];
        target_index += coordinate * params.to_strides[axis / 4u][axis % 4u];
        rest = next;
    }
    source += i32(rest) * params.from_strides[0].x;
    target_index += i32(rest) * params.to_strides[0].x;
    store(Value(x[source]), u32(target_index), 0u);
}
