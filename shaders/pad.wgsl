// y[c] = x[c − before] inside x, and outside it a constant or the element that the mode names (reflect, edge, wrap).
// RANK axes, outermost first; `before` may be negative (cropping). The constant is the bits in params.fill, or the first element of
// `given` if reads_fill.
// Grid: linear over the elements of y, 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16 i32 u32
// variants: Out = f32 f16 i32 u32
// variants: const RANK = 1 2 3 4 8
// variants: const MODE = 0 1 2 3
struct Params {
    count: u32,
    fill: u32,
    reads_fill: u32,
    unused: u32,
    extents: array<vec4<u32>, 2>,
    input_extents: array<vec4<i32>, 2>,
    before: array<vec4<i32>, 2>,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read> given: array<In>;
@group(0) @binding(2) var<storage, read_write> y: array<Out>;
@group(0) @binding(3) var<uniform> params: Params;

// The coordinate inside `extent` that stands for one outside.
fn inside(coordinate: i32, extent: i32) -> i32 {
    if MODE == 1u {
        // Reflection without repeating the edge has the period 2·(extent − 1).
        let period = max(2 * (extent - 1), 1);
        let folded = ((coordinate % period) + period) % period;
        return select(folded, period - folded, folded >= extent);
    }
    if MODE == 2u {
        return clamp(coordinate, 0, extent - 1);
    }
    return ((coordinate % extent) + extent) % extent;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = linear_index(group, groups, local, 64u);
    if at >= params.count {
        return;
    }
    var rest = at;
    var source = 0;
    var stride = 1;
    var outside = false;
    for (var i = 0u; i < RANK; i++) {
        let axis = RANK - 1u - i;
        let extent = params.extents[axis / 4u][axis % 4u];
        let input_extent = params.input_extents[axis / 4u][axis % 4u];
        let next = rest / extent;
        var coordinate = i32(rest - next * extent) - params.before[axis / 4u][axis % 4u];
        rest = next;
        if coordinate < 0 || coordinate >= input_extent {
            outside = true;
            if MODE == 0u {
                coordinate = 0;
            } else {
                coordinate = inside(coordinate, input_extent);
            }
        }
        source += coordinate * stride;
        stride *= input_extent;
    }
    if MODE == 0u && outside {
        var fill = bitcast<Value>(params.fill);
        if params.reads_fill != 0u { fill = Value(given[0]); }
        store(fill, at, 0u);
        return;
    }
    store(Value(x[source]), at, 0u);
}
