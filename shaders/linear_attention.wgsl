// Linear attention, step after step: S = g S, u = v or β (v − Sᵀk), S = S + k uᵀ, y = scale Sᵀq, where g is the exponential of
// the decay. Columns of S do not know of each other: an invocation does one column of one head of one batch entry.
//   q      [batch, steps, heads, key]
//   k      [batch, steps, kv_heads, key]
//   v      [batch, steps, kv_heads, value]
//   past   [batch, kv_heads, key, value]
//   decay  [batch, steps, kv_heads, decays]; decays 0: no decay
//   beta   [batch, steps, betas]; betas 0: u is v
//   state  as past: S behind the last step
//   y      [batch, steps, heads, value]; heads / kv_heads heads share a state
// Grid: linear over batch × kv_heads × value, 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16
struct Params {
    total: u32,
    steps: u32,
    heads: u32,
    kv_heads: u32,
    key: u32,
    value: u32,
    decays: u32,
    betas: u32,
    scale: f32,
}
@group(0) @binding(0) var<storage, read> q: array<In>;
@group(0) @binding(1) var<storage, read> k: array<In>;
@group(0) @binding(2) var<storage, read> v: array<In>;
@group(0) @binding(3) var<storage, read> past: array<f32>;
@group(0) @binding(4) var<storage, read> decay: array<In>;
@group(0) @binding(5) var<storage, read> beta: array<In>;
@group(0) @binding(6) var<storage, read_write> state: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<Out>;
@group(0) @binding(8) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = linear_index(group, groups, local, 64u);
    if index >= params.total {
        return;
    }
    let column = index % params.value;
    let owner = index / params.value;
    let head = owner % params.kv_heads;
    let entry = owner / params.kv_heads;
    let shared_by = params.heads / params.kv_heads;
    let base = owner * params.key * params.value + column;
    for (var i = 0u; i < params.key; i += 1u) {
        state[base + i * params.value] = past[base + i * params.value];
    }
    for (var step = 0u; step < params.steps; step += 1u) {
        let at = entry * params.steps + step;
        let row = at * params.kv_heads + head;
        var seen = 0.0;
        for (var i = 0u; i < params.key; i += 1u) {
            var s = state[base + i * params.value];
            if params.decays > 0u {
                s *= exp(f32(decay[row * params.decays + min(i, params.decays - 1u)]));
                state[base + i * params.value] = s;
            }
            seen += s * f32(k[row * params.key + i]);
        }
        var update = f32(v[row * params.value + column]);
        if params.betas > 0u {
            update = (update - seen) * f32(beta[at * params.betas + min(head, params.betas - 1u)]);
        }
        for (var i = 0u; i < params.key; i += 1u) {
            state[base + i * params.value] += f32(k[row * params.key + i]) * update;
        }
        for (var query = head * shared_by; query < (head + 1u) * shared_by; query += 1u) {
            let asked = at * params.heads + query;
            var sum = 0.0;
            for (var i = 0u; i < params.key; i += 1u) {
                sum += state[base + i * params.value] * f32(q[asked * params.key + i]);
            }
            let place = query * params.value + column;
            store(params.scale * sum, at * params.heads * params.value + place, 0u);
        }
    }
}
