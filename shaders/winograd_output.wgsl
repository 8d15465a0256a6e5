// The last step of a 3×3 convolution of step 1 by Winograd's minimal filtering (see winograd_input.wgsl): OUT² output pixels out of
// the (OUT + 2)² sums of products of every patch. x is [value of a patch, channel, patch], y is [image, channel, y, x].
// BIAS: 1 when there is one, by channel.
// Grid: patches × channels over x and y (linear, patches innermost).
// uses: index
// target: y
// variants: Bias = f32 f16
// variants: Out = f32 f16
// variants: const BIAS = 0 1
// variants: const OUT = 2 4
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> bias: array<Bias>;
@group(0) @binding(2) var<storage, read_write> y: array<Out>;
@group(0) @binding(3) var<uniform> params: Params;

struct Params {
    channels: u32,
    patches: u32,
    patches_x: u32,
    patches_y: u32,
    // Elements between channels of x.
    line: u32,
    output_x: u32,
    output_y: u32,
}

const SIZE = OUT + 2u;

fn turned(m: array<f32, 6>) -> array<f32, 4> {
    if OUT == 2u {
        return array<f32, 4>(m[0] + m[1] + m[2], m[1] - m[2] - m[3], 0.0, 0.0);
    }
    let near = m[1] + m[2];
    let across = m[1] - m[2];
    let far = m[3] + m[4];
    let beyond = m[3] - m[4];
    return array<f32, 4>(
        m[0] + near + far,
        across + 2.0 * beyond,
        near + 4.0 * far,
        across + 8.0 * beyond + m[5],
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
    let first_x = (patch_index - line * params.patches_x) * OUT;
    let first_y = (line - image * params.patches_y) * OUT;
    let plane = (image * params.channels + channel) * params.output_y * params.output_x;

    // Columns of what rows have been turned into.
    var half: array<array<f32, 6>, 4>;
    for (var j = 0u; j < SIZE; j++) {
        var values: array<f32, 6>;
        for (var i = 0u; i < SIZE; i++) {
            values[i] = x[((j * SIZE + i) * params.channels + channel) * params.line + patch_index];
        }
        let row = turned(values);
        for (var i = 0u; i < OUT; i++) {
            half[i][j] = row[i];
        }
    }
    var shift = 0.0;
    if BIAS == 1u {
        shift = f32(bias[channel]);
    }
    for (var i = 0u; i < OUT; i++) {
        let column = turned(half[i]);
        for (var j = 0u; j < OUT; j++) {
            let place = vec2<u32>(first_x + i, first_y + j);
            if place.x < params.output_x && place.y < params.output_y {
                store(column[j] + shift, plane + place.y * params.output_x + place.x, channel);
            }
        }
    }
}
