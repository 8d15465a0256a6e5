// Every element of the planes of x as `rows` rows of COLUMNS columns of y: y[p, i, j] = x[p, i / rows, j / COLUMNS]. Rows of x are
// whole vectors of four.
// Grid: linear over the vectors of x, 64 a workgroup.
// uses: index
// target: y wide
// variants: Out = f32
// variants: const COLUMNS = 1 2 3 4
struct Params {
    vectors: u32,
    // Vectors of a row of x.
    row_vectors: u32,
    rows: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<Out>>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear_index(group, groups, local, 64u);
    if i >= params.vectors {
        return;
    }
    let value = x[i];
    let line = quotient(i, params.row_vectors);
    let row_vectors = params.row_vectors * COLUMNS;
    var at = line * params.rows * row_vectors + (i - line * params.row_vectors) * COLUMNS;
    for (var row = 0u; row < params.rows; row++) {
        for (var k = 0u; k < COLUMNS; k++) {
            let first = 4u * k;
            let spread = vec4<f32>(
                value[first / COLUMNS],
                value[(first + 1u) / COLUMNS],
                value[(first + 2u) / COLUMNS],
                value[(first + 3u) / COLUMNS],
            );
            store4(spread, (at + k) * 4u, 0u);
        }
        at += row_vectors;
    }
}
