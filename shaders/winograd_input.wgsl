// The first step of a 3×3 convolution of step 1 by Winograd's minimal filtering: every (OUT + 2)² patch of the input, OUT apart, as
// the values that weights are multiplied with (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015).
// x is [image, channel, y, x], the rows of a channel side by side; y is [value of a patch, channel, patch], patches counted over
// images, rows and columns of them, each channel's padded to params.line.
// Grid: patches × channels over x and y (linear, patches innermost).
// uses: index
// variants: In = f32 f16
// variants: const OUT = 2 4
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

struct Params {
    channels: u32,
    patches: u32,
    patches_x: u32,
    patches_y: u32,
    // Elements between channels of y.
    line: u32,
    input_x: u32,
    input_y: u32,
    pad_x: u32,
    pad_y: u32,
    // Elements of x before the first one, and between images and channels.
    first: u32,
    image: u32,
    plane: u32,
}

const SIZE = OUT + 2u;

fn turned(d: array<f32, 6>) -> array<f32, 6> {
    if OUT == 2u {
        return array<f32, 6>(d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3], 0.0, 0.0);
    }
    return array<f32, 6>(
        4.0 * d[0] - 5.0 * d[2] + d[4],
        d[3] + d[4] - 4.0 * (d[1] + d[2]),
        d[4] - d[3] + 4.0 * (d[1] - d[2]),
        d[4] - d[2] + 2.0 * (d[3] - d[1]),
        d[4] - d[2] + 2.0 * (d[1] - d[3]),
        4.0 * d[1] - 5.0 * d[3] + d[5],
    );
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = linear_index(group, groups, local, 64u);
    let channel = at / params.patches;
    if channel >= params.channels {
        return;
    }
    let patch_index = at - channel * params.patches;
    let line = patch_index / params.patches_x;
    let image = line / params.patches_y;
    // Corners outside the input wrap.
    let corner_x = (patch_index - line * params.patches_x) * OUT - params.pad_x;
    let corner_y = (line - image * params.patches_y) * OUT - params.pad_y;
    let plane = params.first + image * params.image + channel * params.plane;

    // Columns of what rows have been turned into.
    var half: array<array<f32, 6>, 6>;
    for (var j = 0u; j < SIZE; j++) {
        var values: array<f32, 6>;
        for (var i = 0u; i < SIZE; i++) {
            let place = vec2<u32>(corner_x + i, corner_y + j);
            if place.x < params.input_x && place.y < params.input_y {
                values[i] = f32(x[plane + place.y * params.input_x + place.x]);
            }
        }
        let row = turned(values);
        for (var i = 0u; i < SIZE; i++) {
            half[i][j] = row[i];
        }
    }
    for (var i = 0u; i < SIZE; i++) {
        let column = turned(half[i]);
        for (var j = 0u; j < SIZE; j++) {
            y[((j * SIZE + i) * params.channels + channel) * params.line + patch_index] = column[j];
        }
    }
}
