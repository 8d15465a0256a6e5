// Multiplies every plane by a number of its own: y[i] = x[i] × scale[i / plane].
// Grid: linear over the `count` elements, 64 a workgroup.
// uses: index
struct Params {
    count: u32,
    plane: u32,
}
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> scale: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear_index(group, groups, local, 64u);
    if i < params.count {
        y[i] = x[i] * scale[i / params.plane];
    }
}
