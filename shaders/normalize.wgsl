// y[r, i] = (x[r, i] − mean) × scale / √(variance + ε) + bias, mean and variance over the `count` elements of a row; RMS 1 leaves
// the mean out: x / √(mean of squares + ε). The scale and bias of an element are number
// (r % groups) × group_scales + i / element_divisor % element_scales; without them 1 and 0.
// The variance is that of differences from the mean, in a second pass: no digits cancel.
// GROUP 0: an invocation a row. GROUP 1: a workgroup a row, joined in workgroup memory.
// Grid: GROUP 0 linear over the rows, 64 a workgroup; GROUP 1 one row a workgroup.
// uses: index
// target: y
// variants: In = f32 f16
// variants: Scale = f32 f16
// variants: const RMS = 0 1
// variants: const GROUP = 0 1
struct Params {
    rows: u32,
    count: u32,
    groups: u32,
    group_scales: u32,
    element_divisor: u32,
    element_scales: u32,
    has_bias: u32,
    epsilon: f32,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read> scale: array<Scale>;
@group(0) @binding(2) var<storage, read> bias: array<Scale>;
@group(0) @binding(3) var<storage, read_write> y: array<Out>;
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> partial: array<f32, 64>;

// The sum over the workgroup of each invocation's `value`.
fn joined(value: f32, local: u32) -> f32 {
    partial[local] = value;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half /= 2u) {
        if local < half {
            partial[local] += partial[local + half];
        }
        workgroupBarrier();
    }
    let sum = partial[0];
    workgroupBarrier();
    return sum;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = select(linear_index(group, groups, local, 64u), linear_index(group, groups, 0u, 1u), GROUP == 1u);
    if row >= params.rows {
        return;
    }
    let first = select(0u, local, GROUP == 1u);
    let step = select(1u, 64u, GROUP == 1u);
    let base = row * params.count;
    var mean = 0.0;
    if RMS == 0u {
        // In blocks: added to a large sum one by one, small terms would lose their digits.
        for (var block = first; block < params.count; block += 32u * step) {
            let end = min(block + 32u * step, params.count);
            var part = 0.0;
            for (var i = block; i < end; i += step) {
                part += f32(x[base + i]);
            }
            mean += part;
        }
        if GROUP == 1u {
            mean = joined(mean, local);
        }
        mean /= f32(params.count);
    }
    var spread = 0.0;
    for (var block = first; block < params.count; block += 32u * step) {
        let end = min(block + 32u * step, params.count);
        var part = 0.0;
        for (var i = block; i < end; i += step) {
            let centred = f32(x[base + i]) - mean;
            part += centred * centred;
        }
        spread += part;
    }
    if GROUP == 1u {
        spread = joined(spread, local);
    }
    let factor = 1.0 / sqrt(spread / f32(params.count) + params.epsilon);
    let scales = (row % params.groups) * params.group_scales;
    for (var i = first; i < params.count; i += step) {
        let at = base + i;
        let own = scales + i / params.element_divisor % params.element_scales;
        var value = (f32(x[at]) - mean) * factor * f32(scale[own]);
        if params.has_bias != 0u {
            value += f32(bias[own]);
        }
        store(value, at, 0u);
    }
}
