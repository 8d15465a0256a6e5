// y[…, t, …] = x[…, lengths[b] − 1 − t, …] for the first lengths[b] steps t of batch entry b, x elsewhere. x is seen as
// [outer, first, middle, second, inner], where TIME_FIRST says which of `first` and `second` is time, the other being the batch.
// Grid: linear over the elements of y, 64 a workgroup.
// uses: index, place
// target: y
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Index = i32 u32 i64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
struct Params {
    total: u32,
    first: u32,
    middle: u32,
    second: u32,
    inner: u32,
    time_first: u32,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read> lengths: array<Index>;
@group(0) @binding(2) var<storage, read_write> y: array<Out>;
@group(0) @binding(3) var<uniform> params: Params;

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
    let second_stride = params.inner;
    let first_stride = params.inner * params.second * params.middle;
    let second = at / second_stride % params.second;
    let first = at / first_stride % params.first;
    let is_first = params.time_first != 0u;
    let time = select(second, first, is_first);
    let batch = select(first, second, is_first);
    let stride = select(second_stride, first_stride, is_first);
    let length = min(u32(max(as_index(lengths[batch]), 0)), select(params.second, params.first, is_first));
    var source = at;
    if time < length {
        source = at - time * stride + (length - 1u - time) * stride;
    }
    store(Value(x[source]), at, 0u);
}
