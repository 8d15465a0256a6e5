// As normalize.wgsl, an invocation a row, for rows of whole vectors of four of which several have one scale and bias: planes of
// images, and groups of them.
// Grid: linear over the rows, GROUP a workgroup.
// uses: index, normalize4
// target: y wide
// variants: Out = f32
// variants: const GROUP = 8
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> scale: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
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
    let mean = mean_from(base);
    let factor = factor_from(base, mean);
    var own = (row % params.groups) * params.group_scales;
    for (var first = 0u; first < params.vectors; first += params.scale_vectors) {
        let slope = factor * scale[own];
        var shift = 0.0;
        if params.has_bias != 0u {
            shift = bias[own];
        }
        for (var i = base + first; i < base + first + params.scale_vectors; i++) {
            store4((x[i] - vec4<f32>(mean)) * slope + vec4<f32>(shift), i * 4u, 0u);
        }
        own += 1u;
    }
}
