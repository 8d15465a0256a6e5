// Softmax (LOGARITHM 0) or its logarithm (1) along the middle axis of x: [outer, extent, inner], shifted by the maximum.
// GROUP 0: an invocation a row. GROUP 1: a workgroup a row, joined in workgroup memory.
// MASKED 1: a row of minus infinities alone gives zeros rather than NaN.
// Grid: GROUP 0 linear over the rows (outer × inner), 64 a workgroup; GROUP 1 one row a workgroup.
// uses: index
// target: y
// variants: In = f32 f16
// variants: const LOGARITHM = 0 1
// variants: const GROUP = 0 1
// variants: const MASKED = 0 1
struct Params {
    rows: u32,
    extent: u32,
    inner: u32,
    unused: u32,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<uniform> params: Params;

var<workgroup> partial: array<f32, 64>;

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
    let outer = row / params.inner;
    let base = outer * params.extent * params.inner + (row - outer * params.inner);
    var largest = -3.40282347e+38;
    for (var i = first; i < params.extent; i += step) {
        largest = max(largest, f32(x[base + i * params.inner]));
    }
    if GROUP == 1u {
        partial[local] = largest;
        workgroupBarrier();
        for (var half = 32u; half > 0u; half /= 2u) {
            if local < half {
                partial[local] = max(partial[local], partial[local + half]);
            }
            workgroupBarrier();
        }
        largest = partial[0];
        workgroupBarrier();
    }
    // In blocks: added to a large sum one by one, small terms would lose their digits.
    var sum = 0.0;
    for (var block = first; block < params.extent; block += 32u * step) {
        let end = min(block + 32u * step, params.extent);
        var part = 0.0;
        for (var i = block; i < end; i += step) {
            part += exp(f32(x[base + i * params.inner]) - largest);
        }
        sum += part;
    }
    if GROUP == 1u {
        partial[local] = sum;
        workgroupBarrier();
        for (var half = 32u; half > 0u; half /= 2u) {
            if local < half {
                partial[local] += partial[local + half];
            }
            workgroupBarrier();
        }
        sum = partial[0];
    }
    var scale = select(1.0 / sum, log(sum), LOGARITHM == 1u);
    if MASKED == 1u && sum == 0.0 {
        scale = 0.0;
    }
    for (var i = first; i < params.extent; i += step) {
        let at = base + i * params.inner;
        let value = f32(x[at]) - largest;
        if LOGARITHM == 1u {
            store(value - scale, at, 0u);
        } else {
            store(exp(value) * scale, at, 0u);
        }
    }
}
