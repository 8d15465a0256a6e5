// As softmax.wgsl, an invocation a row, for rows of whole vectors of four that lie side by side: x is [rows, extent].
// MASKED 1: a row of minus infinities alone gives zeros rather than NaN.
// Grid: linear over the rows, GROUP a workgroup.
// uses: index
// target: y wide
// variants: Out = f32
// variants: const LOGARITHM = 0 1
// variants: const MASKED = 0 1
// variants: const GROUP = 8
struct Params {
    rows: u32,
    // Vectors of a row.
    vectors: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<Out>>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = linear_index(group, groups, local, GROUP);
    if row >= params.rows {
        return;
    }
    let base = row * params.vectors;
    var parts = vec4<f32>(-3.40282347e+38);
    for (var i = 0u; i < params.vectors; i++) {
        parts = max(parts, x[base + i]);
    }
    let largest = max(max(parts.x, parts.y), max(parts.z, parts.w));
    // In blocks: added to a large sum one by one, small terms would lose their digits.
    var sums = vec4<f32>();
    for (var block = 0u; block < params.vectors; block += 32u) {
        let end = min(block + 32u, params.vectors);
        var part = vec4<f32>();
        for (var i = block; i < end; i++) {
            part += exp(x[base + i] - vec4<f32>(largest));
        }
        sums += part;
    }
    let sum = (sums.x + sums.y) + (sums.z + sums.w);
    var scale = select(1.0 / sum, log(sum), LOGARITHM == 1u);
    if MASKED == 1u && sum == 0.0 {
        scale = 0.0;
    }
    for (var i = 0u; i < params.vectors; i++) {
        let value = x[base + i] - vec4<f32>(largest);
        if LOGARITHM == 1u {
            store4(value - vec4<f32>(scale), (base + i) * 4u, 0u);
        } else {
            store4(exp(value) * scale, (base + i) * 4u, 0u);
        }
    }
}
