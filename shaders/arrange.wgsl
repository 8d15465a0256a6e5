// Lays out windows or matrices for kernels that read vectors of four (see lib/arrange.wgsl), element by element.
// SLICES 1: there is more than one z.
// Grid: linear over the vectors of y, 64 a workgroup.
// uses: index, arrange
// variants: const SLICES = 0 1
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> entries: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

fn element(row: Row, column: u32) -> f32 {
    let place = column * params.step.z - params.pad.z;
    let inside = row.inside && place < params.input.z && column < params.width;
    return select(0.0, x[row.start + select(0u, place * params.stride.z, inside)], inside);
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
    y[at] = vec4<f32>(
        element(row, column), element(row, column + 1u), element(row, column + 2u), element(row, column + 3u),
    );
}
