// y = softmax(scale × q·kᵀ + mask)·v for every batch entry and head, for GPUs, without laying the scores in storage: a workgroup
// owns 32 queries and meets the keys 32 at a time, keeping each query's greatest score and sum of exponentials so far (Dao and
// others, FlashAttention, 2022; Milakov and Gimelshein, Online normalizer calculation for softmax, 2018).
// A query that sees no key gives zeros.
// MASK: 0 none, 1 added to the scores, 2 hides the keys where it is 0, 3 where it is not. CAUSAL: 1 hides key j from query i
// where j > i + params.shift. VECTORS: the width of v over 32, rounded up.
// Grid: blocks of queries × heads × batch over x and y (linear, blocks of queries innermost).
// uses: index, attention
// target: y
// variants: In = f32 f16
// variants: Mask = f32 f16 u32
// variants: Out = f32 f16
// variants: const MASK = 0 1 2 3
// variants: const CAUSAL = 0 1
// variants: const VECTORS = 1 2 3 4 8
@group(0) @binding(0) var<storage, read> q: array<In>;
@group(0) @binding(1) var<storage, read> k: array<In>;
@group(0) @binding(2) var<storage, read> v: array<In>;
@group(0) @binding(3) var<storage, read> mask: array<Mask>;
@group(0) @binding(4) var<storage, read_write> y: array<Out>;
@group(0) @binding(5) var<uniform> params: Params;

// 32 terms of 32 queries and of 32 keys (vectors of four rows, shuffled by the term), or 32 columns of 32 values.
var<workgroup> left: array<vec4<f32>, 256>;
var<workgroup> right: array<vec4<f32>, 256>;
// Exponentials of the scores: for each key vectors of four queries.
var<workgroup> weights: array<vec4<f32>, 256>;
// For each of eight columns of invocations, vectors of four queries.
var<workgroup> parts: array<vec4<f32>, 64>;

// The least float: a mask that adds it to all scores leaves all keys alike.
const LOWEST = -0x1.fffffep127f;

// The greatest (or the sum) over what the invocations of a row hold for their four queries.
fn gathered(own: vec4<f32>, row: u32, column: u32, greatest: bool) -> vec4<f32> {
    parts[column * 8u + row] = own;
    workgroupBarrier();
    var all = parts[row];
    for (var i = 1u; i < 8u; i++) {
        let other = parts[i * 8u + row];
        all = select(all + other, max(all, other), greatest);
    }
    workgroupBarrier();
    return all;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let at = group.y * groups.x + group.x;
    let blocks = (params.queries + 31u) / 32u;
    let pair = at / blocks;
    let entry = pair / params.heads;
    if entry >= params.batch {
        return;
    }
    let head = pair - entry * params.heads;
    let first_query = (at - pair * blocks) * 32u;
    let q_first = params.q_step.w + entry * params.q_step.x + head * params.q_step.y;
    let k_first = params.k_step.w + entry * params.k_step.x + head / params.sharing * params.k_step.y;
    let v_first = params.v_step.w + entry * params.v_step.x + head / params.sharing * params.v_step.y;
    let mask_first = params.mask_first + entry * params.mask_step.x + head * params.mask_step.y;
    // An invocation's queries and keys are four and four, its columns of v eight apart.
    let row = index / 8u;
    let column = index % 8u;

    var sums: array<vec4<f32>, 4u * VECTORS>;
    var greatest = vec4<f32>(LOWEST);
    var total = vec4<f32>();
    var keys = params.keys;
    if CAUSAL == 1u {
        keys = u32(clamp(i32(first_query) + 32 + params.shift, 0, i32(keys)));
    }
    for (var first_key = 0u; first_key < keys; first_key += 32u) {
        var s0 = vec4<f32>();
        var s1 = vec4<f32>();
        var s2 = vec4<f32>();
        var s3 = vec4<f32>();
        for (var first_term = 0u; first_term < params.depth; first_term += 32u) {
            // One term of four rows at a time: neighbours read neighbouring terms.
            let term = first_term + index % 32u;
            for (var rows = index / 32u; rows < 8u; rows += 2u) {
                var queries = vec4<f32>();
                var others = vec4<f32>();
                if term < params.depth {
                    for (var i = 0u; i < 4u; i++) {
                        let query = min(first_query + rows * 4u + i, params.queries - 1u);
                        let key = min(first_key + rows * 4u + i, params.keys - 1u);
                        queries[i] = f32(q[q_first + query * params.q_step.z + term]);
                        others[i] = f32(k[k_first + key * params.k_step.z + term]);
                    }
                }
                let to = index % 32u * 8u + (rows ^ (index & 7u));
                left[to] = queries;
                right[to] = others;
            }
            workgroupBarrier();
            for (var t = 0u; t < 32u; t++) {
                let x = left[t * 8u + (row ^ (t & 7u))];
                let z = right[t * 8u + (column ^ (t & 7u))];
                s0 = fma(vec4<f32>(z.x), x, s0);
                s1 = fma(vec4<f32>(z.y), x, s1);
                s2 = fma(vec4<f32>(z.z), x, s2);
                s3 = fma(vec4<f32>(z.w), x, s3);
            }
            workgroupBarrier();
        }
        // Scores of four queries for each of four keys.
        var scores = array<vec4<f32>, 4>(s0 * params.scale, s1 * params.scale, s2 * params.scale, s3 * params.scale);
        var seen: array<vec4<bool>, 4>;
        for (var j = 0u; j < 4u; j++) {
            let key = first_key + column * 4u + j;
            for (var i = 0u; i < 4u; i++) {
                let query = first_query + row * 4u + i;
                var is_seen = key < params.keys;
                if CAUSAL == 1u {
                    is_seen &= i32(key) <= i32(query) + params.shift;
                }
                if MASK > 0u {
                    let from_row = min(query, params.queries - 1u) * params.mask_step.z;
                    let value = mask[mask_first + from_row + min(key, params.keys - 1u) * params.mask_step.w];
                    if MASK == 1u {
                        scores[j][i] += f32(value);
                    } else {
                        is_seen &= (value != Mask(0)) == (MASK == 2u);
                    }
                }
                seen[j][i] = is_seen;
                scores[j][i] = select(LOWEST, scores[j][i], is_seen);
            }
        }
        let here = max(max(scores[0], scores[1]), max(scores[2], scores[3]));
        let higher = max(greatest, gathered(here, row, column, true));
        let faded = exp(greatest - higher);
        greatest = higher;
        total *= faded;
        for (var j = 0u; j < 4u; j++) {
            let weight = select(vec4<f32>(), exp(scores[j] - higher), seen[j]);
            weights[(column * 4u + j) * 8u + row] = weight;
            total += weight;
        }
        for (var vector = 0u; vector < VECTORS; vector++) {
            for (var i = 0u; i < 4u; i++) {
                sums[vector * 4u + i] *= faded[i];
            }
            let first = vector * 32u + column;
            for (var step = 0u; step < 4u; step++) {
                let key = min(first_key + step * 8u + row, params.keys - 1u);
                let line = v_first + key * params.v_step.z;
                let last = params.width - 1u;
                right[(step * 8u + row) * 8u + column] = vec4<f32>(
                    f32(v[line + min(first, last)]),
                    f32(v[line + min(first + 8u, last)]),
                    f32(v[line + min(first + 16u, last)]),
                    f32(v[line + min(first + 24u, last)]),
                );
            }
            workgroupBarrier();
            for (var key = 0u; key < 32u; key++) {
                let weight = weights[key * 8u + row];
                let value = right[key * 8u + column];
                for (var i = 0u; i < 4u; i++) {
                    sums[vector * 4u + i] = fma(vec4<f32>(weight[i]), value, sums[vector * 4u + i]);
                }
            }
            workgroupBarrier();
        }
    }
    let all = gathered(total, row, column, false);
    for (var vector = 0u; vector < VECTORS; vector++) {
        for (var i = 0u; i < 4u; i++) {
            let query = first_query + row * 4u + i;
            for (var j = 0u; j < 4u; j++) {
                let place = vector * 32u + j * 8u + column;
                if query < params.queries && place < params.width {
                    let value = select(0.0, sums[vector * 4u + i][j] / all[i], all[i] > 0.0);
                    store(
                        value,
                        params.y_step.w + entry * params.y_step.x + head * params.y_step.y + query * params.y_step.z + place,
                        place,
                    );
                }
            }
        }
    }
}
