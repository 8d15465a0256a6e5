// Local response normalisation (Krizhevsky et al., 2012): y = x / (bias + alpha / size · Σ x² over the nearest channels)^beta.
// x and y are [batch, channels, inner].
// Grid: linear over the elements, 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16
struct Params {
    total: u32,
    channels: i32,
    inner: u32,
    before: i32,
    after: i32,
    scale: f32,
    beta: f32,
    bias: f32,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = linear_index(group, groups, local, 64u);
    if at >= params.total {
        return;
    }
    let channel = i32((at / params.inner) % u32(params.channels));
    let last = min(channel + params.after, params.channels - 1);
    var sum = 0.0;
    for (var c = max(channel - params.before, 0); c <= last; c++) {
        let value = f32(x[i32(at) + (c - channel) * i32(params.inner)]);
        sum += value * value;
    }
    store(f32(x[at]) * pow(params.bias + params.scale * sum, -params.beta), at, u32(channel));
}
