// Samples of images at the points of a grid: x is [batch, channels, iz, iy, ix], grid [batch, points, AXES] in −1..1, x first;
// y is [batch, channels, points]. With AXES 2, iz is 1.
// TAPS neighbours an axis: 1 nearest, 2 linear, 4 cubic (Keys, coefficient −0.75).
// PADDING 0: zeros outside x. 1: the border. 2: reflection at the border.
// Grid: linear over the elements of y, 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16
// variants: Point = f32 f16
// variants: const AXES = 2 3
// variants: const TAPS = 1 2 4
// variants: const PADDING = 0 1 2
struct Params {
    total: u32,
    channels: u32,
    points: u32,
    align_corners: u32,
    input: vec4<i32>,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read> grid: array<Point>;
@group(0) @binding(2) var<storage, read_write> y: array<Out>;
@group(0) @binding(3) var<uniform> params: Params;

fn reflected(at: f32, low: f32, high: f32) -> f32 {
    let span = high - low;
    if span <= 0.0 { return low; }
    let distance = abs(at - low);
    let turns = floor(distance / span);
    let rest = distance - turns * span;
    return select(low + rest, high - rest, turns % 2.0 == 1.0);
}

// The coordinate in x for one in −1..1, brought back inside as PADDING says.
fn coordinate(given: f32, extent: i32) -> f32 {
    let aligned = params.align_corners == 1u;
    let size = f32(extent);
    let at = select(((given + 1.0) * size - 1.0) / 2.0, (given + 1.0) / 2.0 * (size - 1.0), aligned);
    var point = clamp(at, -1.0e9, 1.0e9);
    if TAPS == 1u { point = round(point); }
    let low = select(-0.5, 0.0, aligned);
    let high = select(size - 0.5, size - 1.0, aligned);
    if point < low || point > high {
        if PADDING == 1u { point = clamp(point, 0.0, size - 1.0); }
        if PADDING == 2u { point = reflected(point, low, high); }
    }
    return point;
}

// The element that stands for element i of an axis, or −1 where zeros stand.
fn neighbour(i: i32, extent: i32) -> i32 {
    if i >= 0 && i < extent { return i; }
    if PADDING == 0u { return -1; }
    if PADDING == 1u { return clamp(i, 0, extent - 1); }
    let aligned = params.align_corners == 1u;
    let low = select(-0.5, 0.0, aligned);
    return clamp(i32(reflected(f32(i), low, f32(extent - 1) - low)), 0, extent - 1);
}

fn weight(distance: f32) -> f32 {
    let d = abs(distance);
    if TAPS == 1u { return 1.0; }
    if TAPS == 2u { return max(1.0 - d, 0.0); }
    if d <= 1.0 { return (1.25 * d - 2.25) * d * d + 1.0; }
    if d < 2.0 { return ((-0.75 * d + 3.75) * d - 6.0) * d + 3.0; }
    return 0.0;
}

fn first_tap(point: f32) -> i32 {
    if TAPS == 1u { return i32(point); }
    return i32(floor(point)) - i32(TAPS) / 2 + 1;
}

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
    let plane = at / params.points;
    let point = at - plane * params.points;
    let image = plane / params.channels;
    let entry = (image * params.points + point) * AXES;
    let px = coordinate(f32(grid[entry]), params.input.z);
    let py = coordinate(f32(grid[entry + 1u]), params.input.y);
    var pz = 0.0;
    var deep = 1;
    if AXES == 3u {
        pz = coordinate(f32(grid[entry + AXES - 1u]), params.input.x);
        deep = i32(TAPS);
    }
    let tap_z = select(0, first_tap(pz), AXES == 3u);
    let tap_y = first_tap(py);
    let tap_x = first_tap(px);
    let base = i32(plane) * params.input.x * params.input.y * params.input.z;
    var sum = 0.0;
    for (var k = 0; k < deep; k++) {
        let z = neighbour(tap_z + k, params.input.x);
        let weight_z = select(1.0, weight(pz - f32(tap_z + k)), AXES == 3u);
        for (var j = 0; j < i32(TAPS); j++) {
            let row = neighbour(tap_y + j, params.input.y);
            let weight_y = weight_z * weight(py - f32(tap_y + j));
            for (var i = 0; i < i32(TAPS); i++) {
                let column = neighbour(tap_x + i, params.input.z);
                if z >= 0 && row >= 0 && column >= 0 {
                    let value = f32(x[base + (z * params.input.y + row) * params.input.z + column]);
                    sum += value * weight_y * weight(px - f32(tap_x + i));
                }
            }
        }
    }
    store(Value(sum), at, plane % params.channels);
}
