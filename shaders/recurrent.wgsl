// A recurrent layer over a whole sequence: RNN (KIND 0), LSTM (KIND 1, Hochreiter and Schmidhuber, 1997, gates input, output,
// forget, cell) or GRU (KIND 2, Cho et al., 2014, gates update, reset, hidden). A workgroup does one batch entry in one direction,
// step after step; invocations share the hidden units. The products of inputs and weights are made before, for all steps.
// QUANTIZED 1 (LSTM): the product reads the hidden states that the step before made, rounded to 8 bits over their range in all
// entries (0 in those that had ended), so a workgroup does all entries of one direction.
//   x        [steps, batch, directions, gates × hidden]: inputs times weights, biases added
//   weights  [directions, hidden, gates × hidden]: what the last hidden state is multiplied by
//   extra    LSTM: peepholes [directions, 3 × hidden] (input, output, forget) if has_extra; GRU: the bias of the hidden gate's
//            recurrent part [directions, hidden] if has_extra
//   initial  [states, directions, batch, hidden]: hidden, then (LSTM) cell state
//   lengths  [batch]: steps of each entry; the rest of y is 0
//   y        [steps, directions, batch, hidden]
//   last     as initial: the states after each entry's last step
//   scratch  [directions, batch, 2 × hidden]: GRU's gated state and update gate, where the reset comes before the product;
//            [directions, batch, hidden]: the rounded states, in units of their scale
// y is also where the last hidden state is read from: nothing limits the number of hidden units.
// Grid: batch × directions workgroups; QUANTIZED: directions.
// uses: index, place
// target: y
// variants: In = f32 f16
// variants: Weight = f32 f16
// variants: Index = i32 u32 i64
// variants: const KIND = 0 1 2
// variants: const QUANTIZED = 0 1
// variants: const SIZE = 64 256
struct Params {
    steps: u32,
    batch: u32,
    directions: u32,
    hidden: u32,
    // Bit d: direction d goes from the last step to the first.
    backward: u32,
    has_extra: u32,
    // LSTM: the input gate is what the forget gate leaves. GRU: the reset comes behind the product.
    coupled: u32,
    clip: f32,
    // For each direction the activation functions f, g, h, and their parameters.
    functions: array<vec4<u32>, 2>,
    alphas: array<vec4<f32>, 2>,
    betas: array<vec4<f32>, 2>,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read> weights: array<Weight>;
@group(0) @binding(2) var<storage, read> extra: array<Weight>;
@group(0) @binding(3) var<storage, read> initial: array<In>;
@group(0) @binding(4) var<storage, read> lengths: array<Index>;
@group(0) @binding(5) var<storage, read_write> y: array<Out>;
@group(0) @binding(6) var<storage, read_write> last: array<f32>;
@group(0) @binding(7) var<storage, read_write> scratch: array<f32>;
@group(0) @binding(8) var<uniform> params: Params;

fn squash(a: f32) -> f32 {
    // The built-in overflows to NaN.
    let e = exp(-2.0 * abs(a));
    return sign(a) * (1.0 - e) / (1.0 + e);
}

fn activated(value: f32, direction: u32, which: u32) -> f32 {
    let a = params.alphas[direction][which];
    let b = params.betas[direction][which];
    var v = value;
    if params.clip > 0.0 {
        v = clamp(v, -params.clip, params.clip);
    }
    switch params.functions[direction][which] {
        case 0u: { return 1.0 / (1.0 + exp(-v)); }
        case 1u: { return squash(v); }
        case 2u: { return max(v, 0.0); }
        case 3u: { return a * v + b; }
        case 4u: { return select(a * v, v, v >= 0.0); }
        case 5u: { return select(0.0, v, v > a); }
        case 6u: { return a * squash(b * v); }
        case 7u: { return clamp(a * v + b, 0.0, 1.0); }
        case 8u: { return select(a * (exp(v) - 1.0), v, v >= 0.0); }
        case 9u: { return v / (1.0 + abs(v)); }
        default: { return max(v, 0.0) + log(1.0 + exp(-abs(v))); }
    }
}

var<workgroup> ranges: array<vec2<f32>, SIZE>;

// The range that holds those of all invocations.
fn joined(own: vec2<f32>, local: u32) -> vec2<f32> {
    ranges[local] = own;
    workgroupBarrier();
    for (var half = SIZE / 2u; half > 0u; half /= 2u) {
        if local < half {
            let other = ranges[local + half];
            ranges[local] = vec2<f32>(min(ranges[local].x, other.x), max(ranges[local].y, other.y));
        }
        workgroupBarrier();
    }
    let result = ranges[0];
    workgroupBarrier();
    return result;
}

fn length_of(entry: u32) -> u32 {
    return min(u32(max(as_index(lengths[entry]), 0)), params.steps);
}

// The step in time that an entry's step, counted in the direction's order, is.
fn time_of(direction: u32, entry: u32, step: u32) -> u32 {
    let is_backward = ((params.backward >> direction) & 1u) != 0u;
    return select(step, length_of(entry) - 1u - step, is_backward);
}

// Where y holds the states of an entry at a time.
fn states_at(direction: u32, entry: u32, time: u32) -> u32 {
    return ((time * params.directions + direction) * params.batch + entry) * params.hidden;
}

// Where the hidden states of an entry before a step begin: in initial for step 0, then in y.
fn before_at(direction: u32, entry: u32, step: u32) -> u32 {
    if step == 0u { return (direction * params.batch + entry) * params.hidden; }
    return states_at(direction, entry, time_of(direction, entry, step - 1u));
}

fn state(step: u32, at: u32) -> f32 {
    if step == 0u { return f32(initial[at]); }
    return f32(y[at]);
}

@compute @workgroup_size(SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let entries = select(1u, params.batch, QUANTIZED == 1u);
    let first = linear_index(group, groups, 0u, 1u) * entries;
    if first >= params.batch * params.directions {
        return;
    }
    let direction = first / params.batch;
    let hidden = params.hidden;
    let gates = select(select(1u, 4u, KIND == 1u), 3u, KIND == 2u);
    let width = gates * hidden;
    let cells = params.directions * params.batch * hidden;
    let rows = direction * hidden * width;
    let units = entries * hidden;
    var longest = 0u;
    for (var i = 0u; i < entries; i += 1u) {
        longest = max(longest, length_of(first - direction * params.batch + i));
    }
    if KIND == 1u {
        for (var at = first * hidden + local; at < first * hidden + units; at += SIZE) {
            last[cells + at] = f32(initial[cells + at]);
        }
    }
    for (var step = 0u; step < longest; step += 1u) {
        var scale = 1.0;
        if QUANTIZED == 1u {
            var range = vec2<f32>(0.0);
            for (var at = local; at < units; at += SIZE) {
                let entry = at / hidden;
                var h = 0.0;
                if step <= length_of(entry) { h = state(step, before_at(direction, entry, step) + at % hidden); }
                scratch[first * hidden + at] = h;
                range = vec2<f32>(min(range.x, h), max(range.y, h));
            }
            range = joined(range, local);
            if range.x < range.y { scale = (range.y - range.x) / 255.0; }
            let zero = round(clamp(-range.x / scale, 0.0, 255.0));
            for (var at = first * hidden + local; at < first * hidden + units; at += SIZE) {
                scratch[at] = clamp(round(scratch[at] / scale) + zero, 0.0, 255.0) - zero;
            }
            storageBarrier();
        }
        if KIND == 2u && params.coupled == 0u {
            // The reset gate comes first, as it multiplies the state that the hidden gate's product reads.
            let entry = first - direction * params.batch;
            let time = time_of(direction, entry, step);
            let before = before_at(direction, entry, step);
            let inputs = ((time * params.batch + entry) * params.directions + direction) * width;
            for (var j = local; j < hidden; j += SIZE) {
                var update = f32(x[inputs + j]);
                var reset = f32(x[inputs + hidden + j]);
                for (var k = 0u; k < hidden; k += 1u) {
                    let h = state(step, before + k);
                    update += h * f32(weights[rows + k * width + j]);
                    reset += h * f32(weights[rows + k * width + hidden + j]);
                }
                let spare = first * 2u * hidden + j;
                scratch[spare] = activated(reset, direction, 0u) * state(step, before + j);
                scratch[spare + hidden] = activated(update, direction, 0u);
            }
            storageBarrier();
        }
        for (var at = local; at < units; at += SIZE) {
            let member = select(0u, at / hidden, QUANTIZED == 1u);
            let j = at - member * hidden;
            let own = first + member;
            let entry = own - direction * params.batch;
            if QUANTIZED == 1u && step >= length_of(entry) { continue; }
            let time = time_of(direction, entry, step);
            let before = before_at(direction, entry, step);
            let inputs = ((time * params.batch + entry) * params.directions + direction) * width;
            var sums = vec4<f32>(0.0);
            for (var k = 0u; k < hidden; k += 1u) {
                let row = rows + k * width + j;
                if KIND == 2u && params.coupled == 0u {
                    sums.z += scratch[own * 2u * hidden + k] * f32(weights[row + 2u * hidden]);
                    continue;
                }
                var h = 0.0;
                if QUANTIZED == 1u {
                    h = scratch[own * hidden + k];
                } else {
                    h = state(step, before + k);
                }
                if KIND == 0u {
                    sums.x += h * f32(weights[row]);
                } else {
                    var w = vec4<f32>(f32(weights[row]), f32(weights[row + hidden]), f32(weights[row + 2u * hidden]), 0.0);
                    if KIND == 1u { w.w = f32(weights[row + 3u * hidden]); }
                    sums += h * w;
                }
            }
            sums *= scale;
            var result = 0.0;
            if KIND == 0u {
                result = activated(f32(x[inputs + j]) + sums.x, direction, 0u);
            } else if KIND == 1u {
                let cell = last[cells + own * hidden + j];
                let peep = direction * 3u * hidden + j;
                var input = f32(x[inputs + j]) + sums.x;
                var forget = f32(x[inputs + 2u * hidden + j]) + sums.z;
                if params.has_extra != 0u {
                    input += f32(extra[peep]) * cell;
                    forget += f32(extra[peep + 2u * hidden]) * cell;
                }
                let kept = activated(forget, direction, 0u);
                var taken = activated(input, direction, 0u);
                if params.coupled != 0u { taken = 1.0 - kept; }
                let fresh = activated(f32(x[inputs + 3u * hidden + j]) + sums.w, direction, 1u);
                let next = kept * cell + taken * fresh;
                var output = f32(x[inputs + hidden + j]) + sums.y;
                if params.has_extra != 0u {
                    output += f32(extra[peep + hidden]) * next;
                }
                last[cells + own * hidden + j] = next;
                result = activated(output, direction, 0u) * activated(next, direction, 2u);
            } else {
                var update = 0.0;
                var fresh = f32(x[inputs + 2u * hidden + j]);
                if params.coupled != 0u {
                    update = activated(f32(x[inputs + j]) + sums.x, direction, 0u);
                    let reset = activated(f32(x[inputs + hidden + j]) + sums.y, direction, 0u);
                    var product = sums.z;
                    if params.has_extra != 0u { product += f32(extra[direction * hidden + j]); }
                    fresh += reset * product;
                } else {
                    update = scratch[own * 2u * hidden + hidden + j];
                    fresh += sums.z;
                }
                result = (1.0 - update) * activated(fresh, direction, 1u) + update * state(step, before + j);
            }
            store(result, states_at(direction, entry, time) + j, 0u);
        }
        // The next step reads what all invocations have written.
        storageBarrier();
    }
    for (var at = local; at < units; at += SIZE) {
        let member = select(0u, at / hidden, QUANTIZED == 1u);
        let j = at - member * hidden;
        let entry = first - direction * params.batch + member;
        let length = length_of(entry);
        last[first * hidden + at] = state(length, before_at(direction, entry, length) + j);
        for (var time = length; time < params.steps; time += 1u) {
            store(0.0, states_at(direction, entry, time) + j, 0u);
        }
    }
}
