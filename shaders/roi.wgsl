// One value for each bin of each region of interest: x is [batch, channels, rows, columns], y [regions, channels, bins_y, bins_x].
// MODE 0, 1: bilinear samples inside the bin, their mean or the maximum of their weighed neighbours (RoiAlign; He et al.,
// 2017). A region is x1, y1, x2, y2; `images` says which batch entry it is in.
// MODE 2: the maximum over the bin's elements (Girshick, 2015). A region is batch entry, x1, y1, x2, y2; `images` is not read.
// Grid: linear over the elements of y, 64 a workgroup.
// uses: index, place
// target: y
// variants: In = f32 f16
// variants: Region = f32 f16
// variants: Index = i32 u32 i64 f32 f16
// variants: const MODE = 0 1 2
struct Params {
    total: u32,
    channels: u32,
    batch: i32,
    rows: i32,
    columns: i32,
    bins_y: u32,
    bins_x: u32,
    samples: i32,
    scale: f32,
    // What is taken off scaled coordinates: half a pixel, or nothing.
    shift: f32,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read> regions: array<Region>;
@group(0) @binding(2) var<storage, read> images: array<Index>;
@group(0) @binding(3) var<storage, read_write> y: array<Out>;
@group(0) @binding(4) var<uniform> params: Params;

// A bilinear sample of the plane that starts at `base`: the sum of its weighed neighbours, or the largest of them.
fn sampled(base: i32, given_y: f32, given_x: f32) -> f32 {
    let height = f32(params.rows);
    let width = f32(params.columns);
    if given_y < -1.0 || given_y > height || given_x < -1.0 || given_x > width {
        return 0.0;
    }
    let at_y = clamp(given_y, 0.0, height - 1.0);
    let at_x = clamp(given_x, 0.0, width - 1.0);
    let low = vec2<i32>(i32(at_y), i32(at_x));
    let high = min(low + 1, vec2<i32>(params.rows - 1, params.columns - 1));
    let part = vec2<f32>(at_y, at_x) - vec2<f32>(low);
    let top = base + low.x * params.columns;
    let bottom = base + high.x * params.columns;
    let a = (1.0 - part.x) * (1.0 - part.y) * f32(x[top + low.y]);
    let b = (1.0 - part.x) * part.y * f32(x[top + high.y]);
    let c = part.x * (1.0 - part.y) * f32(x[bottom + low.y]);
    let d = part.x * part.y * f32(x[bottom + high.y]);
    if MODE == 1u {
        return max(max(a, b), max(c, d));
    }
    return a + b + c + d;
}

fn aligned(region: u32, channel: u32, bin: vec2<f32>) -> f32 {
    let entry = region * 4u;
    let start = vec2<f32>(f32(regions[entry + 1u]), f32(regions[entry])) * params.scale - params.shift;
    let end = vec2<f32>(f32(regions[entry + 3u]), f32(regions[entry + 2u])) * params.scale - params.shift;
    var size = end - start;
    if params.shift == 0.0 {
        size = max(size, vec2<f32>(1.0, 1.0));
    }
    let step = size / vec2<f32>(f32(params.bins_y), f32(params.bins_x));
    var count = vec2<i32>(params.samples, params.samples);
    if params.samples <= 0 {
        count = vec2<i32>(ceil(step));
    }
    let image = clamp(as_index(images[region]), 0, params.batch - 1);
    let base = (image * i32(params.channels) + i32(channel)) * params.rows * params.columns;
    var result = 0.0;
    for (var j = 0; j < count.x; j++) {
        let at_y = start.x + (bin.x + (f32(j) + 0.5) / f32(count.x)) * step.x;
        for (var i = 0; i < count.y; i++) {
            let value = sampled(base, at_y, start.y + (bin.y + (f32(i) + 0.5) / f32(count.y)) * step.y);
            if MODE == 0u {
                result += value;
            } else if i == 0 && j == 0 {
                result = value;
            } else {
                result = max(result, value);
            }
        }
    }
    if MODE == 0u {
        result /= f32(max(count.x * count.y, 1));
    }
    return result;
}

fn rounded(a: f32) -> i32 { return i32(sign(a) * floor(abs(a) + 0.5)); }

fn pooled(region: u32, channel: u32, bin: vec2<f32>) -> f32 {
    let entry = region * 5u;
    let image = clamp(i32(regions[entry]), 0, params.batch - 1);
    let first = vec2<i32>(rounded(f32(regions[entry + 2u]) * params.scale), rounded(f32(regions[entry + 1u]) * params.scale));
    let last = vec2<i32>(rounded(f32(regions[entry + 4u]) * params.scale), rounded(f32(regions[entry + 3u]) * params.scale));
    let size = vec2<f32>(max(last - first + 1, vec2<i32>(1, 1)));
    let step = size / vec2<f32>(f32(params.bins_y), f32(params.bins_x));
    let limit = vec2<i32>(params.rows, params.columns);
    let first_element = clamp(vec2<i32>(floor(bin * step)) + first, vec2<i32>(0, 0), limit);
    let end_element = clamp(vec2<i32>(ceil((bin + 1.0) * step)) + first, vec2<i32>(0, 0), limit);
    let base = (image * i32(params.channels) + i32(channel)) * params.rows * params.columns;
    var result = 0.0;
    for (var row = first_element.x; row < end_element.x; row++) {
        for (var column = first_element.y; column < end_element.y; column++) {
            let value = f32(x[base + row * params.columns + column]);
            let is_first = row == first_element.x && column == first_element.y;
            result = select(max(result, value), value, is_first);
        }
    }
    return result;
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
    let bin_x = at % params.bins_x;
    let row = at / params.bins_x;
    let bin = vec2<f32>(f32(row % params.bins_y), f32(bin_x));
    let plane = row / params.bins_y;
    let channel = plane % params.channels;
    let region = plane / params.channels;
    if MODE == 2u {
        store(Value(pooled(region, channel, bin)), at, channel);
    } else {
        store(Value(aligned(region, channel, bin)), at, channel);
    }
}
