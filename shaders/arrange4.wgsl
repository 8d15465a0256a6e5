// As arrange.wgsl where rows of x are whole vectors of four: strides, entries and extents along x are multiples of four, steps
// along x are 1. SHIFT: elements of the vector before a row's first one that its first vector reads, padding modulo four.
// SLICES 1: there is more than one z.
// Grid: linear over the vectors of y, 64 a workgroup.
// uses: index, arrange
// variants: const SLICES = 0 1
// variants: const SHIFT = 0 1 2 3
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> entries: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

fn vector(row: Row, place: u32) -> vec4<f32> {
    let inside = row.inside && place < params.input.z / 4u;
    return select(vec4<f32>(), x[row.start / 4u + select(0u, place, inside)], inside);
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
    // The vector that holds the last element read.
    let place = spot.place - params.pad.z / 4u;
    let last = vector(row, place);
    var value = last;
    if SHIFT > 0u {
        let first = vector(row, place - 1u);
        if SHIFT == 1u {
            value = vec4<f32>(first.w, last.xyz);
        } else if SHIFT == 2u {
            value = vec4<f32>(first.zw, last.xy);
        } else {
            value = vec4<f32>(first.yzw, last.x);
        }
    }
    y[at] = value;
}
