// As reduce.wgsl, an invocation a row, for sums (MODE 0) and means (MODE 1) of rows of whole vectors of four that lie side by
// side: x is [kept, reduced].
// Grid: linear over `kept`, GROUP a workgroup.
// uses: index
// target: y
// variants: Out = f32
// variants: const MODE = 0 1
// variants: const GROUP = 8
struct Params {
    kept: u32,
    // Vectors of a row.
    vectors: u32,
    channel_inner: u32,
    channels: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = linear_index(group, groups, local, GROUP);
    if row >= params.kept {
        return;
    }
    let base = row * params.vectors;
    // In blocks: added to a large sum one by one, small terms would lose their digits.
    var sums = vec4<f32>();
    for (var block = 0u; block < params.vectors; block += 32u) {
        let end = min(block + 32u, params.vectors);
        var part = vec4<f32>();
        for (var i = block; i < end; i++) {
            part += x[base + i];
        }
        sums += part;
    }
    var value = (sums.x + sums.y) + (sums.z + sums.w);
    if MODE == 1u {
        value /= f32(params.vectors * 4u);
    }
    store(value, row, (row / params.channel_inner) % params.channels);
}
