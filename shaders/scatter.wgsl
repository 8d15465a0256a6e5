// Updates written into y, which holds a copy of the data: y[p(l, k)] becomes MODE(y[p(l, k)], updates[l, k]). An invocation does
// one line l after the other's k in order, so that updates of one place are joined in order.
// A line starts at the places that `extents`, `update_strides` and `data_strides` give; along it, update k lies `update_step`
// further. TUPLES 0: one index an update, along an axis of `axis_extent` entries, `axis_stride` apart; the indices lie as the
// updates do. TUPLES 1: `width` indices an update, over axes of `tuple_extents`, `axis_stride` elements a place.
// Negative indices count from the end; updates outside are left out.
// MODE 0 replaces, 1 adds, 2 multiplies, 3 keeps the larger, 4 the smaller.
// Grid: linear over the lines, 64 a workgroup.
// uses: index, place
// target: y
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Index = i32 u32 i64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
// variants: const MODE = 0 1 2 3 4
// variants: const TUPLES = 0 1
struct Params {
    lines: u32,
    count: u32,
    update_step: u32,
    axis_extent: u32,
    axis_stride: u32,
    width: u32,
    unused_a: u32,
    unused_b: u32,
    extents: array<vec4<u32>, 2>,
    update_strides: array<vec4<u32>, 2>,
    data_strides: array<vec4<u32>, 2>,
    tuple_extents: array<vec4<u32>, 2>,
}
@group(0) @binding(0) var<storage, read> updates: array<In>;
@group(0) @binding(1) var<storage, read> indices: array<Index>;
@group(0) @binding(2) var<storage, read_write> y: array<Out>;
@group(0) @binding(3) var<uniform> params: Params;

// The place that update `k` names, counted along the axis or through the tuple's axes; past the end for one outside.
fn place(update: u32, k: u32) -> u32 {
    if TUPLES == 0u {
        var index = as_index(indices[update]);
        if index < 0 {
            index += i32(params.axis_extent);
        }
        return u32(select(index, -1, index < 0 || index >= i32(params.axis_extent)));
    }
    var found = 0u;
    for (var axis = 0u; axis < params.width; axis += 1u) {
        let extent = params.tuple_extents[axis / 4u][axis % 4u];
        var index = as_index(indices[k * params.width + axis]);
        if index < 0 {
            index += i32(extent);
        }
        if index < 0 || index >= i32(extent) {
            return 0xffffffffu;
        }
        found = found * extent + u32(index);
    }
    return found;
}

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
    var rest = line;
    var first = 0u;
    var base = 0u;
    for (var axis = 8u; axis > 0u; axis -= 1u) {
        let a = axis - 1u;
        let extent = params.extents[a / 4u][a % 4u];
        let coordinate = rest % extent;
        rest /= extent;
        first += coordinate * params.update_strides[a / 4u][a % 4u];
        base += coordinate * params.data_strides[a / 4u][a % 4u];
    }
    for (var k = 0u; k < params.count; k += 1u) {
        let update = first + k * params.update_step;
        let found = place(update, k);
        if found == 0xffffffffu {
            continue;
        }
        let at = base + found * params.axis_stride;
        let value = Value(updates[update]);
        let old = Value(y[at]);
        var joined = value;
        if MODE == 1u { joined = old + value; }
        if MODE == 2u { joined = old * value; }
        if MODE == 3u { joined = max(old, value); }
        if MODE == 4u { joined = min(old, value); }
        store(joined, at, 0u);
    }
}
