// As normalize.wgsl, an invocation a row, for rows of whole vectors of four and a scale and bias for each element of a row.
// Grid: linear over the rows, GROUP a workgroup.
// uses: index, normalize4
// target: y wide
// variants: Out = f32
// variants: const RMS = 0 1
// variants: const GROUP = 8
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> scale: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<Out>>;
@group(0) @binding(4) var<uniform> params: Params;

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
    var mean = 0.0;
    if RMS == 0u {
        mean = mean_from(base);
    }
    let factor = factor_from(base, mean);
    for (var i = 0u; i < params.vectors; i++) {
        var value = (x[base + i] - vec4<f32>(mean)) * factor * scale[i];
        if params.has_bias != 0u {
            value += bias[i];
        }
        store4(value, (base + i) * 4u, 0u);
    }
}
