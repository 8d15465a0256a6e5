// As arrange4.wgsl where rows of x begin anywhere: steps along x are 1.
// Grid: linear over the vectors of y, 64 a workgroup.
// uses: index, arrange
// variants: const SLICES = 0 1
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> entries: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

fn vector(index: i32) -> vec4<f32> {
    return x[clamp(index, 0, i32(params.last))];
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = linear_index(group, groups, local, 64u);
    if at >= params.extent.w {
        return;
    }
    let spot = spot_of(at);
    let row = row_at(spot.row, spot.plane);
    let column = spot.place * 4u;
    let place = column - params.pad.z;
    // The four elements lie in two vectors; what is read of other rows is left out behind.
    let start = i32(row.start) + i32(place);
    let first = vector(start >> 2u);
    let next = vector((start >> 2u) + 1);
    var value = first;
    if (start & 2) != 0 {
        value = vec4<f32>(first.zw, next.xy);
    }
    if (start & 1) != 0 {
        value = vec4<f32>(value.yzw, select(next.x, next.z, (start & 2) != 0));
    }
    let each = vec4<u32>(0u, 1u, 2u, 3u);
    let read = (vec4<u32>(place) + each) < vec4<u32>(params.input.z);
    let kept = (vec4<u32>(column) + each) < vec4<u32>(params.width);
    y[at] = select(vec4<f32>(), value, read & kept & vec4<bool>(row.inside));
}
