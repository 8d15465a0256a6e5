// As reduce.wgsl, for rows of x that lie side by side, by vectors of four: an invocation makes one value of a part of a row.
// MODE as there: 0 sum (of which a mean is a share), 2 maximum, 3 minimum. Values of several parts are reduced again.
// Rows need not be whole vectors: neighbours share some then.
// Grid: linear over `values`, GROUP a workgroup.
// uses: index
// target: y
// variants: Out = f32
// variants: const MODE = 0 2 3
// variants: const GROUP = 8
struct Params {
    // All that are made.
    values: u32,
    // Elements of a row, and of a part.
    count: u32,
    part: u32,
    // Parts of a row.
    parts: u32,
    channel_inner: u32,
    channels: u32,
    // What values are divided by.
    divisor: f32,
    unused: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<uniform> params: Params;

fn is_nan(a: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(a) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

fn joined(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    if MODE == 0u {
        return a + b;
    }
    let extreme = select(min(a, b), max(a, b), vec4<bool>(MODE == 2u));
    return select(select(extreme, b, is_nan(b)), a, is_nan(a));
}

// Vector `i`, with `none` for what it holds of others than elements `first` to `end`.
fn own(i: u32, first: u32, end: u32, none: vec4<f32>) -> vec4<f32> {
    let place = vec4<u32>(i * 4u - first) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(none, x[i], place < vec4<u32>(end - first));
}

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = linear_index(group, groups, local, GROUP);
    if at >= params.values {
        return;
    }
    let row = at / params.parts;
    let first = row * params.count + (at - row * params.parts) * params.part;
    let end = min(first + params.part, (row + 1u) * params.count);
    // What changes nothing: an element is no larger and no smaller than itself.
    let none = select(vec4<f32>(x[first / 4u][first % 4u]), vec4<f32>(), vec4<bool>(MODE == 0u));
    let head = first / 4u;
    let tail = (end - 1u) / 4u;
    var all = own(head, first, end, none);
    if tail != head {
        all = joined(all, own(tail, first, end, none));
    }
    // In blocks: added to a large sum one by one, small terms would lose their digits.
    for (var block = head + 1u; block < tail; block += 32u) {
        let block_end = min(block + 32u, tail);
        var part = x[block];
        for (var i = block + 1u; i < block_end; i++) {
            part = joined(part, x[i]);
        }
        all = joined(all, part);
    }
    let pairs = joined(all, all.zwxy);
    let value = joined(pairs, pairs.yxwz).x;
    store(value / params.divisor, at, (at / params.channel_inner) % params.channels);
}
