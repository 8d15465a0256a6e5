// The tile of product_tiled.wgsl and product_packed.wgsl: 64 rows × 64 columns out of slices of 16 terms that a workgroup
// lays in its memory; each invocation keeps 4 × 4 sums. What is read goes through
// left_at(element of a, channel of the result) and right_at(element of b, column, term).
var<workgroup> left: array<Sum, 1024>;
var<workgroup> right: array<Sum, 1024>;

struct Term {
    channel: u32,
    tap: vec3<u32>,
}

fn term_at(k: u32) -> Term {
    let tap = k % params.taps;
    let rest = tap / params.kernel.x;
    return Term(k / params.taps, vec3<u32>(tap % params.kernel.x, rest % params.kernel.y, rest / params.kernel.y));
}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let tile = group.y * groups.x + group.x;
    let column_tiles = (params.columns + 63u) / 64u;
    let first_row = tile / column_tiles * 64u;
    let first_column = tile % column_tiles * 64u;
    let start = starts[group.z];
    let terms = params.channels * params.taps;

    // What this invocation carries into workgroup memory: one term of four rows, four terms of one column.
    let a_term = index % 16u;
    let a_row = index / 16u;
    let b_column = index % 64u;
    let b_term = index / 64u;
    let pixel = pixel_at(min(first_column + b_column, params.columns - 1u));
    let corner = corner_of(pixel);
    let image = start.y + pixel.image * params.b_image;

    var sums: array<vec4<Sum>, 4>;
    for (var k = 0u; k < terms; k += 16u) {
        let term = term_at(k + a_term);
        let offset = start.x + term.channel * params.a_channel + dot(term.tap, params.a_tap.xyz);
        for (var i = 0u; i < 4u; i++) {
            let row = first_row + a_row + 16u * i;
            var value = Sum(0);
            if row < params.rows && k + a_term < terms {
                value = left_at(offset + row * params.a_row, start.w + row);
            }
            left[a_term * 64u + a_row + 16u * i] = value;
        }
        for (var i = 0u; i < 4u; i++) {
            let slot = b_term + 4u * i;
            let moved = term_at(k + slot);
            let at = corner + moved.tap * params.dilation.xyz;
            var value = Sum(0);
            if k + slot < terms && is_inside(at) {
                let column = min(first_column + b_column, params.columns - 1u);
                value = right_at(image + moved.channel * params.b_channel + input_offset(at), column, moved.channel);
            }
            right[slot * 64u + b_column] = value;
        }
        workgroupBarrier();
        for (var t = 0u; t < 16u; t++) {
            let at = t * 64u + local.x * 4u;
            let values = vec4<Sum>(right[at], right[at + 1u], right[at + 2u], right[at + 3u]);
            for (var i = 0u; i < 4u; i++) {
                sums[i] = vec4<Sum>(left[t * 64u + local.y * 4u + i]) * values + sums[i];
            }
        }
        workgroupBarrier();
    }

    for (var j = 0u; j < 4u; j++) {
        let column = first_column + local.x * 4u + j;
        if column >= params.columns {
            continue;
        }
        let base = start.z + output_offset(pixel_at(column));
        for (var i = 0u; i < 4u; i++) {
            let row = first_row + local.y * 4u + i;
            if row < params.rows {
                let channel = start.w + row * params.channel_row + column * params.channel_column;
                if WHOLE == 1u {
                    // Integers are not scaled, and nothing is added to them.
                    store(Value(sums[i][j]), base + row * params.y_row, channel);
                    continue;
                }
                var value = f32(sums[i][j]) * params.alpha;
                if BIAS == 1u {
                    value += params.beta * f32(bias[start.w + row]);
                } else if BIAS == 2u {
                    value += params.beta * f32(bias[row * params.bias_row + column * params.bias_column]);
                }
                store(Value(value), base + row * params.y_row, channel);
            }
        }
    }
}
