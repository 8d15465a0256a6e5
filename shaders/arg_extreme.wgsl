// Where along the middle axis of x: [outer, extent, inner] the largest (SMALLEST 0) or smallest (1) value is: the first such
// place, or the last if `last` is set.
// Grid: linear over the lines (outer × inner), 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Out = i32 i64
// variants: const SMALLEST = 0 1
struct Params {
    lines: u32,
    extent: u32,
    inner: u32,
    last: u32,
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
    var best = x[base];
    var place = 0u;
    for (var i = 1u; i < params.extent; i += 1u) {
        let value = x[base + i * params.inner];
        let beyond = select(value > best, value < best, SMALLEST == 1u);
        if beyond || (params.last != 0u && value == best) {
            best = value;
            place = i;
        }
    }
    store(Value(place), line, 0u);
}
