// y = alpha × Σ over parts of what each gave + beta × bias for every batch entry (see lib/product.wgsl): the second step of a
// product whose terms were cut into PARTS. partial holds [entry, part, row, column].
// BIAS: 0 none, 1 by channel (starts[z].w + row), 2 by bias_row and bias_column.
// Grid: elements over x and y (linear), batch entries over z.
// uses: index, product
// target: y
// variants: Bias = f32 f16
// variants: Out = f32 f16
// variants: const BIAS = 0 1 2
// variants: const PARTS = 2 4 8 16
@group(0) @binding(0) var<storage, read> partial: array<f32>;
@group(0) @binding(1) var<storage, read> bias: array<Bias>;
@group(0) @binding(2) var<storage, read> starts: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<Out>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = linear_index(group, groups, local, 64u);
    let elements = params.rows * params.columns;
    if at >= elements {
        return;
    }
    let row = at / params.columns;
    let column = at - row * params.columns;
    let start = starts[group.z];
    var sum = 0.0;
    for (var part = 0u; part < PARTS; part++) {
        sum += partial[(group.z * PARTS + part) * elements + at];
    }
    var value = sum * params.alpha;
    if BIAS == 1u {
        value += params.beta * f32(bias[start.w + row]);
    } else if BIAS == 2u {
        value += params.beta * f32(bias[row * params.bias_row + column * params.bias_column]);
    }
    let channel = start.w + row * params.channel_row + column * params.channel_column;
    store(value, start.z + output_offset(pixel_at(column)) + row * params.y_row, channel);
}
