// Determinants of square matrices: x is [count, n, n], y [count]. Gaussian elimination with row pivoting in `rest`, which
// holds a copy of x.
// Grid: linear over the matrices, 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16
struct Params {
    total: u32,
    n: u32,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read_write> rest: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<Out>;
@group(0) @binding(3) var<uniform> params: Params;

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
    let n = params.n;
    let base = at * n * n;
    for (var i = 0u; i < n * n; i++) {
        rest[base + i] = f32(x[base + i]);
    }
    var result = 1.0;
    for (var k = 0u; k < n; k++) {
        var pivot = k;
        for (var row = k + 1u; row < n; row++) {
            if abs(rest[base + row * n + k]) > abs(rest[base + pivot * n + k]) {
                pivot = row;
            }
        }
        let head = rest[base + pivot * n + k];
        result *= select(-head, head, pivot == k);
        if head == 0.0 {
            break;
        }
        for (var column = k; column < n; column++) {
            let kept = rest[base + k * n + column];
            rest[base + k * n + column] = rest[base + pivot * n + column];
            rest[base + pivot * n + column] = kept;
        }
        for (var row = k + 1u; row < n; row++) {
            let factor = rest[base + row * n + k] / head;
            for (var column = k; column < n; column++) {
                rest[base + row * n + column] -= factor * rest[base + k * n + column];
            }
        }
    }
    store(Value(result), at, 0u);
}
