// One value for each kept coordinate, made of all values along the reduced axes: y[k] = finish(Σ or max … over r of x[k, r]).
// Kept and reduced axes are given by extents and strides of x, collapsed to at most four each, outermost first.
// MODE 0 sum, 1 mean, 2 maximum, 3 minimum, 4 product, 5 sum of sizes (L1), 6 root of the sum of squares (L2), 7 logarithm
// of the sum, 8 sum of squares, 9 logarithm of the sum of exponentials (shifted by the maximum).
// GROUP 0: an invocation each. GROUP 1: a workgroup each, partial results joined in workgroup memory.
// Grid: GROUP 0 linear over `kept`, 64 a workgroup; GROUP 1 linear over `kept`, one a workgroup.
// uses: index
// target: y
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
// variants: const MODE = 0 1 2 3 4 5 6 7 8 9
// variants: const GROUP = 0 1
// variants: const FLOAT = 0 1
struct Params {
    kept: u32,
    reduced: u32,
    channel_inner: u32,
    channels: u32,
    kept_extents: vec4<u32>,
    kept_strides: vec4<u32>,
    reduced_extents: vec4<u32>,
    reduced_strides: vec4<u32>,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<uniform> params: Params;

var<workgroup> partial: array<Value, 64>;

// Integers have no such values, whatever their bits.
fn is_nan_value(a: Value) -> bool { return FLOAT == 1u && (bitcast<u32>(f32(a)) & 0x7fffffffu) > 0x7f800000u; }

fn place(index: u32, extents: vec4<u32>, strides: vec4<u32>) -> u32 {
    var rest = index;
    var at = 0u;
    if extents.w != 1u { at += (rest % extents.w) * strides.w; rest /= extents.w; }
    if extents.z != 1u { at += (rest % extents.z) * strides.z; rest /= extents.z; }
    if extents.y != 1u { at += (rest % extents.y) * strides.y; rest /= extents.y; }
    return at + rest * strides.x;
}

fn larger(a: Value, b: Value) -> Value {
    if is_nan_value(a) { return a; }
    if is_nan_value(b) { return b; }
    return max(a, b);
}

fn smaller(a: Value, b: Value) -> Value {
    if is_nan_value(a) { return a; }
    if is_nan_value(b) { return b; }
    return min(a, b);
}

fn joined(a: Value, b: Value) -> Value {
    if MODE == 2u { return larger(a, b); }
    if MODE == 3u { return smaller(a, b); }
    if MODE == 4u { return a * b; }
    return a + b;
}

fn term(value: Value, shift: Value) -> Value {
    if MODE == 5u { return abs(value); }
    if MODE == 6u || MODE == 8u { return value * value; }
    if MODE == 9u { return Value(exp(f32(value - shift))); }
    return value;
}

fn finished(value: Value, shift: Value) -> Value {
    if MODE == 1u { return value / Value(params.reduced); }
    if MODE == 6u { return Value(sqrt(f32(value))); }
    if MODE == 7u { return Value(log(f32(value))); }
    if MODE == 9u { return Value(log(f32(value)) + f32(shift)); }
    return value;
}

fn element(base: u32, r: u32) -> Value {
    return Value(x[base + place(r, params.reduced_extents, params.reduced_strides)]);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = select(linear_index(group, groups, local, 64u), linear_index(group, groups, 0u, 1u), GROUP == 1u);
    if at >= params.kept {
        return;
    }
    let first = select(0u, local, GROUP == 1u);
    let step = select(1u, 64u, GROUP == 1u);
    let base = place(at, params.kept_extents, params.kept_strides);
    // There is at least one element for every invocation of a row.
    var shift = Value(0);
    if MODE == 9u {
        shift = element(base, first);
        for (var r = first + step; r < params.reduced; r += step) {
            shift = larger(shift, element(base, r));
        }
        if GROUP == 1u {
            partial[local] = shift;
            workgroupBarrier();
            for (var half = 32u; half > 0u; half /= 2u) {
                if local < half {
                    partial[local] = larger(partial[local], partial[local + half]);
                }
                workgroupBarrier();
            }
            shift = partial[0];
            workgroupBarrier();
        }
        // Only infinities among the values: they are not subtracted from each other.
        if (bitcast<u32>(f32(shift)) & 0x7fffffffu) == 0x7f800000u {
            shift = Value(0);
        }
    }
    var value = term(element(base, first), shift);
    // In blocks: added to a large sum one by one, small terms would lose their digits.
    for (var block = first + step; block < params.reduced; block += 32u * step) {
        let end = min(block + 32u * step, params.reduced);
        var part = term(element(base, block), shift);
        for (var r = block + step; r < end; r += step) {
            part = joined(part, term(element(base, r), shift));
        }
        value = joined(value, part);
    }
    if GROUP == 1u {
        partial[local] = value;
        workgroupBarrier();
        for (var half = 32u; half > 0u; half /= 2u) {
            if local < half {
                partial[local] = joined(partial[local], partial[local + half]);
            }
            workgroupBarrier();
        }
        if local != 0u {
            return;
        }
        value = partial[0];
    }
    store(finished(value, shift), at, (at / params.channel_inner) % params.channels);
}
