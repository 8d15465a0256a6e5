// Lays out windows or matrices for kernels that read vectors of four (see lib/arrange.wgsl), element by element.
// SLICES 1: there is more than one z.
// Grid: linear over the vectors of a plane in x, 64 a workgroup; planes in z.
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
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    if id.x >= params.plane_vectors {
        return;
    }
    let index = quotient(id.x, params.row_vectors);
    let row = row_at(index, group.z);
    let column = (id.x - index * params.row_vectors) * 4u;
    y[group.z * params.plane_vectors + id.x] = vec4<f32>(
        element(row, column), element(row, column + 1u), element(row, column + 2u), element(row, column + 3u),
    );
}
