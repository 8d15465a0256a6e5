// As map.wgsl, four elements an invocation: `count` is a multiple of four.
// Grid: linear over `count` / 4, 64 a workgroup.
// uses: index
// target: y wide
// variants: Out = f32 f16 i32 u32 i64 u64 f64
struct Params {
    count: u32,
}
@group(0) @binding(0) var<storage, read_write> y: array<vec4<Out>>;
@group(0) @binding(1) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear_index(group, groups, local, 64u) * 4u;
    if i < params.count {
        store4(vec4<Value>(), i, 0u);
    }
}
