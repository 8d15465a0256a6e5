// Rows of two halves, turned: with a and b an element of the first half and of the second one,
//   y = (a × cosine − b × sine, b × cosine′ + a × sine′)
// where cosine′ and sine′ are those of the second half (Su et al., RoFormer, 2021). Rows of y lie side by side, those of the
// others anywhere. Extents and strides count vectors of four elements.
// Grid: linear over the `count` vectors of all first halves, 64 a workgroup.
// uses: index
// target: y wide
// variants: In = f32 f16
// variants: Cosine = f32 f16
// variants: Sine = f32 f16
struct Params {
    count: u32,
    // Of half a row.
    half: u32,
    // Extents of the inner two of three axes of rows.
    middle: u32,
    inner: u32,
    // Between neighbours along the three axes, and before the first row.
    x_steps: vec4<u32>,
    cosine_steps: vec4<u32>,
    sine_steps: vec4<u32>,
    // Between the angles of the two halves.
    cosine_half: u32,
    sine_half: u32,
}
@group(0) @binding(0) var<storage, read> x: array<vec4<In>>;
@group(0) @binding(1) var<storage, read> cosine: array<vec4<Cosine>>;
@group(0) @binding(2) var<storage, read> sine: array<vec4<Sine>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<Out>>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = linear_index(group, groups, local, 64u);
    if index >= params.count {
        return;
    }
    let row = quotient(index, params.half);
    let column = index - row * params.half;
    let plane = quotient(row, params.inner);
    let outer = quotient(plane, params.middle);
    let place = vec4<u32>(outer, plane - outer * params.middle, row - plane * params.inner, 1u);
    let begin = dot(place, params.x_steps) + column;
    let a = vec4<f32>(x[begin]);
    let b = vec4<f32>(x[begin + params.half]);
    let turn = dot(place, params.cosine_steps) + column;
    let lift = dot(place, params.sine_steps) + column;
    let first = a * vec4<f32>(cosine[turn]) - b * vec4<f32>(sine[lift]);
    let second = b * vec4<f32>(cosine[turn + params.cosine_half]) + a * vec4<f32>(sine[lift + params.sine_half]);
    let at = (2u * row * params.half + column) * 4u;
    store4(vec4<Value>(first), at, 0u);
    store4(vec4<Value>(second), at + 4u * params.half, 0u);
}
