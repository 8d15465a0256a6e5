// As reduce.wgsl, an invocation a row, for sums (MODE 0) and means (MODE 1) of rows that lie side by side, by vectors of four:
// x is [kept, reduced]. TIGHT: rows are no whole vectors, so that neighbours share some.
// Grid: linear over `kept`, GROUP a workgroup.
// uses: index
// target: y
// variants: Out = f32
// variants: const MODE = 0 1
// variants: const TIGHT = 0 1
// variants: const GROUP = 8
struct Params {
    kept: u32,
    // Elements of a row.
    count: u32,
    channel_inner: u32,
    channels: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<uniform> params: Params;

// Vector `i`, without what it holds of other rows than that from element `first` on.
fn own(i: u32, first: u32) -> vec4<f32> {
    if TIGHT == 0u {
        return x[i];
    }
    let place = vec4<u32>(i * 4u - first) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<f32>(), x[i], place < vec4<u32>(params.count));
}

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = linear_index(group, groups, local, GROUP);
    if row >= params.kept {
        return;
    }
    let first = row * params.count;
    let behind = (first + params.count + 3u) / 4u;
    // In blocks: added to a large sum one by one, small terms would lose their digits.
    var sums = vec4<f32>();
    for (var block = first / 4u; block < behind; block += 32u) {
        let end = min(block + 32u, behind);
        var part = vec4<f32>();
        for (var i = block; i < end; i++) {
            part += own(i, first);
        }
        sums += part;
    }
    var value = (sums.x + sums.y) + (sums.z + sums.w);
    if MODE == 1u {
        value /= f32(params.count);
    }
    store(value, row, (row / params.channel_inner) % params.channels);
}
