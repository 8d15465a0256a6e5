// A recurrent layer over a whole sequence: RNN (KIND 0), LSTM (KIND 1, Hochreiter and Schmidhuber, 1997, gates input, output,
// forget, cell) or GRU (KIND 2, Cho et al., 2014, gates update, reset, hidden). A workgroup does one batch entry in one direction,
// step after step; invocations share the hidden units. The products of inputs and weights are made before, for all steps.
//   x        [steps, batch, directions, gates × hidden]: inputs times weights, biases added
//   weights  [directions, hidden, gates × hidden]: what the last hidden state is multiplied by
//   extra    LSTM: peepholes [directions, 3 × hidden] (input, output, forget) if has_extra; GRU: the bias of the hidden gate's
//            recurrent part [directions, hidden] if has_extra
//   initial  [states, directions, batch, hidden]: hidden, then (LSTM) cell state
//   lengths  [batch]: steps of each entry; the rest of y is 0
//   y        [steps, directions, batch, hidden]
//   last     as initial: the states after each entry's last step
//   scratch  [directions, batch, 2 × hidden]: GRU's gated state and update gate, where the reset comes before the product
// y is also where the last hidden state is read from: nothing limits the number of hidden units.
// Grid: batch × directions workgroups.
// uses: index, place
// target: y
// variants: In = f32 f16
// variants: Weight = f32 f16
// variants: Index = i32 u32 i64
// variants: const KIND = 0 1 2
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

@compute @workgroup_size(SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let own = linear_index(group, groups, 0u, 1u);
    if own >= params.batch * params.directions {
        return;
    }
    let direction = own / params.batch;
    let entry = own - direction * params.batch;
    let hidden = params.hidden;
    let gates = select(select(1u, 4u, KIND == 1u), 3u, KIND == 2u);
    let width = gates * hidden;
    let is_backward = ((params.backward >> direction) & 1u) != 0u;
    let length = min(u32(max(as_index(lengths[entry]), 0)), params.steps);
    let states = params.directions * params.batch * hidden;
    let state = own * hidden;
    let rows = direction * hidden * width;
    let spare = own * 2u * hidden;
    if KIND == 1u {
        for (var j = local; j < hidden; j += SIZE) {
            last[states + state + j] = f32(initial[states + state + j]);
        }
    }
    var before = 0u;
    for (var step = 0u; step < length; step += 1u) {
        let time = select(step, length - 1u - step, is_backward);
        let inputs = ((time * params.batch + entry) * params.directions + direction) * width;
        let now = ((time * params.directions + direction) * params.batch + entry) * hidden;
        if KIND == 2u && params.coupled == 0u {
            // The reset gate comes first, as it multiplies the state that the hidden gate's product reads.
            for (var j = local; j < hidden; j += SIZE) {
                var update = f32(x[inputs + j]);
                var reset = f32(x[inputs + hidden + j]);
                var own_state = 0.0;
                for (var k = 0u; k < hidden; k += 1u) {
                    var h = f32(initial[state + k]);
                    if step > 0u { h = f32(y[before + k]); }
                    if k == j { own_state = h; }
                    update += h * f32(weights[rows + k * width + j]);
                    reset += h * f32(weights[rows + k * width + hidden + j]);
                }
                scratch[spare + j] = activated(reset, direction, 0u) * own_state;
                scratch[spare + hidden + j] = activated(update, direction, 0u);
            }
            storageBarrier();
        }
        for (var j = local; j < hidden; j += SIZE) {
            var sums = vec4<f32>(0.0);
            var own_state = 0.0;
            for (var k = 0u; k < hidden; k += 1u) {
                var h = f32(initial[state + k]);
                if step > 0u { h = f32(y[before + k]); }
                if k == j { own_state = h; }
                let row = rows + k * width + j;
                if KIND == 0u {
                    sums.x += h * f32(weights[row]);
                } else if KIND == 1u {
                    sums += h * vec4<f32>(
                        f32(weights[row]),
                        f32(weights[row + hidden]),
                        f32(weights[row + 2u * hidden]),
                        f32(weights[row + 3u * hidden]),
                    );
                } else if params.coupled != 0u {
                    sums += h * vec4<f32>(
                        f32(weights[row]),
                        f32(weights[row + hidden]),
                        f32(weights[row + 2u * hidden]),
                        0.0,
                    );
                } else {
                    sums.z += scratch[spare + k] * f32(weights[row + 2u * hidden]);
                }
            }
            var result = 0.0;
            if KIND == 0u {
                result = activated(f32(x[inputs + j]) + sums.x, direction, 0u);
            } else if KIND == 1u {
                let cell = last[states + state + j];
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
                last[states + state + j] = next;
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
                    update = scratch[spare + hidden + j];
                    fresh += sums.z;
                }
                result = (1.0 - update) * activated(fresh, direction, 1u) + update * own_state;
            }
            store(result, now + j, 0u);
        }
        // The next step reads what all invocations have written.
        storageBarrier();
        before = now;
    }
    for (var j = local; j < hidden; j += SIZE) {
        var h = f32(initial[state + j]);
        if length > 0u { h = f32(y[before + j]); }
        last[state + j] = h;
        for (var time = length; time < params.steps; time += 1u) {
            store(0.0, ((time * params.directions + direction) * params.batch + entry) * hidden + j, 0u);
        }
    }
}
