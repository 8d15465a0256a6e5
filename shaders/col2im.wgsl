// Columns of blocks laid back over an image and summed: x is [batch, channels, taps, blocks], y [batch, channels, z, y, x].
// Vectors hold z, y, x. `blocks` is how many positions a window has along each axis, w their product.
// Grid: linear over the elements of y, 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16
struct Params {
    total: u32,
    channels: u32,
    unused_1: u32,
    unused_2: u32,
    image: vec4<i32>,
    kernel: vec4<i32>,
    blocks: vec4<i32>,
    stride: vec4<i32>,
    pad: vec4<i32>,
    dilation: vec4<i32>,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<uniform> params: Params;

// The block along one axis whose tap lies on a padded coordinate; −1 if there is none.
fn block(at: i32, stride: i32, count: i32) -> i32 {
    if at < 0 || at % stride != 0 || at / stride >= count {
        return -1;
    }
    return at / stride;
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
    let column = i32(at) % params.image.z;
    let row_index = i32(at) / params.image.z;
    let row = row_index % params.image.y;
    let slice_index = row_index / params.image.y;
    let slice = slice_index % params.image.x;
    let plane = slice_index / params.image.x;
    let place = vec3<i32>(slice, row, column) + params.pad.xyz;
    let taps = params.kernel.x * params.kernel.y * params.kernel.z;
    var sum = 0.0;
    for (var kz = 0; kz < params.kernel.x; kz++) {
        let bz = block(place.x - kz * params.dilation.x, params.stride.x, params.blocks.x);
        for (var ky = 0; ky < params.kernel.y; ky++) {
            let by = block(place.y - ky * params.dilation.y, params.stride.y, params.blocks.y);
            for (var kx = 0; kx < params.kernel.z; kx++) {
                let bx = block(place.z - kx * params.dilation.z, params.stride.z, params.blocks.z);
                if bz >= 0 && by >= 0 && bx >= 0 {
                    let tap = (kz * params.kernel.y + ky) * params.kernel.z + kx;
                    let index = (bz * params.blocks.y + by) * params.blocks.z + bx;
                    sum += f32(x[(plane * taps + tap) * params.blocks.w + index]);
                }
            }
        }
    }
    store(Value(sum), at, u32(plane) % params.channels);
}
