// One invocation an element: everything is done by the chain behind `store`.
// Grid: linear over `count` elements, 64 a workgroup.
// uses: index
// target: y
// variants: Out = f32 f16 i32 u32 i64 u64 f64
struct Params {
    count: u32,
}
@group(0) @binding(0) var<storage, read_write> y: array<Out>;
@group(0) @binding(1) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear_index(group, groups, local, 64u);
    if i < params.count {
        store(Value(0), i, 0u);
    }
}
