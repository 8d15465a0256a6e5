// Running sums (PRODUCT 0) or products (1) along the middle axis of x: [outer, extent, inner]. `exclusive` leaves an entry out
// of its own total, `reverse` counts from the end.
// Grid: linear over the lines (outer × inner), 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
// variants: const PRODUCT = 0 1
struct Params {
    lines: u32,
    extent: u32,
    inner: u32,
    exclusive: u32,
    reverse: u32,
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
    let line = linear_index(group, groups, local, 64u);
    if line >= params.lines {
        return;
    }
    let outer = line / params.inner;
    let base = outer * params.extent * params.inner + (line - outer * params.inner);
    var total = Value(PRODUCT);
    for (var step = 0u; step < params.extent; step += 1u) {
        let along = select(step, params.extent - 1u - step, params.reverse != 0u);
        let at = base + along * params.inner;
        let before = total;
        let entry = Value(x[at]);
        if PRODUCT == 1u {
            total *= entry;
        } else {
            total += entry;
        }
        if params.exclusive != 0u {
            store(before, at, 0u);
        } else {
            store(total, at, 0u);
        }
    }
}
