// Scalar functions that fused chains call, each a `fn NAME(` … `}` of its own. Suffixes _f, _i and _u mark f32, i32 and u32;
// u32 stands for bools too, 0 or 1.
//
// They may call those of index.wgsl, which every kernel that stores by a chain has.
// Drivers may compile as if NaN did not exist, so what depends on it looks at the bits.

// Where the operand of element `i` is: extents of the output's axes and the operand's strides along them, innermost first.
fn strided(i: u32, extents: vec4<u32>, strides: vec4<u32>) -> u32 {
    var rest = i;
    var at = 0u;
    if extents.x != 1u { let outer = quotient(rest, extents.x); at += (rest - outer * extents.x) * strides.x; rest = outer; }
    if extents.y != 1u { let outer = quotient(rest, extents.y); at += (rest - outer * extents.y) * strides.y; rest = outer; }
    if extents.z != 1u { let outer = quotient(rest, extents.z); at += (rest - outer * extents.z) * strides.z; rest = outer; }
    return at + rest * strides.w;
}

fn nan_bits(a: f32) -> bool { return (bitcast<u32>(a) & 0x7fffffffu) > 0x7f800000u; }
fn is_nan(a: f32) -> u32 { return u32(nan_bits(a)); }
fn is_inf(a: f32, negative: f32, positive: f32) -> u32 {
    let bits = bitcast<u32>(a);
    return u32((bits == 0x7f800000u && positive != 0.0) || (bits == 0xff800000u && negative != 0.0));
}

fn add_f(a: f32, b: f32) -> f32 { return a + b; }
fn add_i(a: i32, b: i32) -> i32 { return a + b; }
fn add_u(a: u32, b: u32) -> u32 { return a + b; }
fn sub_f(a: f32, b: f32) -> f32 { return a - b; }
fn sub_i(a: i32, b: i32) -> i32 { return a - b; }
fn sub_u(a: u32, b: u32) -> u32 { return a - b; }
fn mul_f(a: f32, b: f32) -> f32 { return a * b; }
fn mul_i(a: i32, b: i32) -> i32 { return a * b; }
fn mul_u(a: u32, b: u32) -> u32 { return a * b; }
fn div_f(a: f32, b: f32) -> f32 { return a / b; }
fn div_i(a: i32, b: i32) -> i32 { return a / b; }
fn div_u(a: u32, b: u32) -> u32 { return a / b; }
fn max_f(a: f32, b: f32) -> f32 {
    if nan_bits(a) { return a; }
    if nan_bits(b) { return b; }
    return max(a, b);
}
fn min_f(a: f32, b: f32) -> f32 {
    if nan_bits(a) { return a; }
    if nan_bits(b) { return b; }
    return min(a, b);
}
fn max_i(a: i32, b: i32) -> i32 { return max(a, b); }
fn min_i(a: i32, b: i32) -> i32 { return min(a, b); }
fn max_u(a: u32, b: u32) -> u32 { return max(a, b); }
fn min_u(a: u32, b: u32) -> u32 { return min(a, b); }

// WGSL's pow is undefined for negative bases: the sign of an odd integral power is put back. x^0 is 1 for every x.
fn pow_f(a: f32, b: f32) -> f32 {
    if b == 0.0 || a == 1.0 { return 1.0; }
    if b == 1.0 { return a; }
    if b == 2.0 { return a * a; }
    if b == 3.0 { return a * a * a; }
    if b == 0.5 { return sqrt(a); }
    if b == -1.0 { return 1.0 / a; }
    let size = pow(abs(a), b);
    if a >= 0.0 { return size; }
    if floor(b) != b { return sqrt(-1.0 - abs(a)); }
    return select(size, -size, abs(b) % 2.0 == 1.0);
}

fn equal_f(a: f32, b: f32) -> u32 { return u32(a == b && !nan_bits(a) && !nan_bits(b)); }
fn equal_i(a: i32, b: i32) -> u32 { return u32(a == b); }
fn equal_u(a: u32, b: u32) -> u32 { return u32(a == b); }
fn greater_f(a: f32, b: f32) -> u32 { return u32(a > b && !nan_bits(a) && !nan_bits(b)); }
fn greater_i(a: i32, b: i32) -> u32 { return u32(a > b); }
fn greater_u(a: u32, b: u32) -> u32 { return u32(a > b); }
fn greater_equal_f(a: f32, b: f32) -> u32 { return u32(a >= b && !nan_bits(a) && !nan_bits(b)); }
fn greater_equal_i(a: i32, b: i32) -> u32 { return u32(a >= b); }
fn greater_equal_u(a: u32, b: u32) -> u32 { return u32(a >= b); }
fn less_f(a: f32, b: f32) -> u32 { return u32(a < b && !nan_bits(a) && !nan_bits(b)); }
fn less_i(a: i32, b: i32) -> u32 { return u32(a < b); }
fn less_u(a: u32, b: u32) -> u32 { return u32(a < b); }
fn less_equal_f(a: f32, b: f32) -> u32 { return u32(a <= b && !nan_bits(a) && !nan_bits(b)); }
fn less_equal_i(a: i32, b: i32) -> u32 { return u32(a <= b); }
fn less_equal_u(a: u32, b: u32) -> u32 { return u32(a <= b); }
fn and_u(a: u32, b: u32) -> u32 { return a & b; }
fn or_u(a: u32, b: u32) -> u32 { return a | b; }
fn xor_u(a: u32, b: u32) -> u32 { return a ^ b; }
fn not_u(a: u32) -> u32 { return 1u - a; }
fn where_f(condition: u32, a: f32, b: f32) -> f32 { return select(b, a, condition != 0u); }
fn where_i(condition: u32, a: i32, b: i32) -> i32 { return select(b, a, condition != 0u); }
fn where_u(condition: u32, a: u32, b: u32) -> u32 { return select(b, a, condition != 0u); }
fn to_bool_f(a: f32) -> u32 { return u32(nan_bits(a) || a != 0.0); }
fn to_bool_i(a: i32) -> u32 { return u32(a != 0); }
fn to_bool_u(a: u32) -> u32 { return u32(a != 0u); }

fn neg_f(a: f32) -> f32 { return -a; }
fn sign_f(a: f32) -> f32 {
    if nan_bits(a) { return a; }
    return sign(a);
}
fn atan_f(a: f32) -> f32 {
    if nan_bits(a) { return a; }
    return atan(a);
}
fn neg_i(a: i32) -> i32 { return -a; }
fn relu(a: f32) -> f32 {
    if nan_bits(a) { return a; }
    return max(a, 0.0);
}
fn relu_i(a: i32) -> i32 { return max(a, 0); }
fn leaky_relu(a: f32, alpha: f32) -> f32 { return select(a, a * alpha, a < 0.0); }
fn thresholded_relu(a: f32, alpha: f32) -> f32 {
    if nan_bits(a) { return a; }
    return select(0.0, a, a > alpha);
}
// Near 0 the difference exp(a) - 1 loses its digits: the series takes over.
fn exp_minus_one(a: f32) -> f32 {
    if abs(a) < 0.02 { return a * (1.0 + a * (0.5 + a * 0.16666667)); }
    return exp(a) - 1.0;
}
fn elu(a: f32, alpha: f32) -> f32 {
    if a < 0.0 { return alpha * exp_minus_one(a); }
    return a;
}
fn celu(a: f32, alpha: f32) -> f32 {
    if a < 0.0 { return alpha * exp_minus_one(a / alpha); }
    return a;
}
fn selu(a: f32, alpha: f32, gamma: f32) -> f32 {
    if a > 0.0 { return gamma * a; }
    return gamma * alpha * exp_minus_one(a);
}
fn sigmoid(a: f32) -> f32 { return 1.0 / (1.0 + exp(-a)); }
fn swish(a: f32, alpha: f32) -> f32 { return a / (1.0 + exp(-a * alpha)); }
fn hard_sigmoid(a: f32, alpha: f32, beta: f32) -> f32 {
    if nan_bits(a) { return a; }
    return clamp(alpha * a + beta, 0.0, 1.0);
}
fn hard_swish(a: f32) -> f32 { return a * clamp(a * 0.16666667 + 0.5, 0.0, 1.0); }
// exp overflows where tanh is 1 to the last bit; near 0 the quotient loses digits.
fn tanh_f(a: f32) -> f32 {
    if nan_bits(a) { return a; }
    let x = abs(a);
    if x < 0.05 { return a * (1.0 - x * x * (0.33333334 - x * x * 0.13333334)); }
    let e = exp(-2.0 * x);
    return sign(a) * (1.0 - e) / (1.0 + e);
}
fn log_f(a: f32) -> f32 {
    if a == 0.0 { return -1.0 / abs(a); }
    return log(a);
}
fn reciprocal(a: f32) -> f32 { return 1.0 / a; }
fn log_one_plus(a: f32) -> f32 {
    if a < 0.01 { return a * (1.0 - a * (0.5 - a * 0.33333334)); }
    return log(1.0 + a);
}
fn softplus(a: f32) -> f32 {
    if nan_bits(a) { return a; }
    return max(a, 0.0) + log_one_plus(exp(-abs(a)));
}
fn softsign(a: f32) -> f32 { return a / (1.0 + abs(a)); }
fn mish(a: f32) -> f32 { return a * tanh_f(softplus(a)); }
fn shrink(a: f32, bias: f32, lambd: f32) -> f32 {
    if a < -lambd { return a + bias; }
    if a > lambd { return a - bias; }
    return 0.0;
}
// Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26; below 0.5 the Maclaurin series, exact to the last bits.
fn erf(a: f32) -> f32 {
    let x = abs(a);
    if x < 0.5 {
        let s = a * a;
        return a * (1.1283792 + s * (-0.37612638 + s * (0.11283792 + s * (-0.026866171 + s * 0.0052239776))));
    }
    let t = 1.0 / (1.0 + 0.3275911 * x);
    let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(a) * (1.0 - p * exp(-x * x));
}
fn gelu(a: f32) -> f32 { return 0.5 * a * (1.0 + erf(a * 0.70710678)); }
fn gelu_tanh(a: f32) -> f32 { return 0.5 * a * (1.0 + tanh_f(0.7978845608 * (a + 0.044715 * a * a * a))); }
fn affine(a: f32, alpha: f32, beta: f32) -> f32 { return alpha * a + beta; }
fn parametric_softplus(a: f32, alpha: f32, beta: f32) -> f32 { return alpha * softplus(beta * a); }
fn scaled_tanh(a: f32, alpha: f32, beta: f32) -> f32 { return alpha * tanh_f(beta * a); }

fn wrap_i(a: i32, unused: u32) -> i32 { return (a << unused) >> unused; }
fn wrap_u(a: u32, unused: u32) -> u32 { return (a << unused) >> unused; }
fn clamp_number(a: f32, low: f32, high: f32) -> f32 {
    if nan_bits(a) { return 0.0; }
    return trunc(clamp(a, low, high));
}
fn round_bf16(a: f32) -> f32 {
    let bits = bitcast<u32>(a);
    if nan_bits(a) { return a; }
    return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}
// The nearest float with `fraction` bits behind the point and no exponent below `least`. The step is a power of two, so that
// dividing by it and multiplying again are exact.
fn round_small(a: f32, least: i32, fraction: i32, largest: f32, beyond: u32, nan: u32) -> f32 {
    let bits = bitcast<u32>(a);
    if nan_bits(a) { return bitcast<f32>(nan); }
    let sign = bits & 0x80000000u;
    if (bits & 0x7fffffffu) == 0x7f800000u { return bitcast<f32>(beyond | sign); }
    let exponent = max(i32((bits >> 23u) & 0xffu) - 127, least);
    let step = bitcast<f32>(u32(exponent - fraction + 127) << 23u);
    let inverse = bitcast<f32>(u32(127 - exponent + fraction) << 23u);
    let rounded = round(abs(a) * inverse) * step;
    if exponent > 20 || rounded > largest { return bitcast<f32>(beyond | sign); }
    return bitcast<f32>(bitcast<u32>(rounded) | sign);
}
// A power of two: the next larger where the fraction reaches `threshold`.
fn round_power(a: f32, threshold: u32, saturates: u32) -> f32 {
    let bits = bitcast<u32>(a);
    let nan = bits | 0x7fc00000u;
    if nan_bits(a) { return a; }
    if (bits >> 31u) == 1u || bits < 0x400000u {
        return bitcast<f32>(select(nan, 0x400000u, saturates != 0u));
    }
    var code = bits >> 23u;
    let fraction = select(bits, bits << 1u, code == 0u) & 0x7fffffu;
    code += u32(fraction >= threshold);
    if code > 254u {
        if saturates == 0u { return bitcast<f32>(nan); }
        code = 254u;
    }
    return bitcast<f32>(select(code << 23u, 0x400000u, code == 0u));
}

fn bits_and_i(a: i32, b: i32) -> i32 { return a & b; }
fn bits_and_u(a: u32, b: u32) -> u32 { return a & b; }
fn bits_or_u(a: u32, b: u32) -> u32 { return a | b; }
fn bits_xor_u(a: u32, b: u32) -> u32 { return a ^ b; }
fn bits_or_i(a: i32, b: i32) -> i32 { return a | b; }
fn bits_xor_i(a: i32, b: i32) -> i32 { return a ^ b; }
fn bits_not_i(a: i32) -> i32 { return ~a; }
fn bits_not_u(a: u32) -> u32 { return ~a; }
fn bits_f_i(a: f32) -> i32 { return bitcast<i32>(a); }
fn bits_f_u(a: f32) -> u32 { return bitcast<u32>(a); }
fn bits_i_f(a: i32) -> f32 { return bitcast<f32>(a); }
fn bits_u_f(a: u32) -> f32 { return bitcast<f32>(a); }
fn shift_left_i(a: i32, b: i32, width: u32) -> i32 {
    if u32(b) >= width { return 0; }
    return a << u32(b);
}
fn shift_left_u(a: u32, b: u32, width: u32) -> u32 {
    if b >= width { return 0u; }
    return a << b;
}
fn shift_right_i(a: i32, b: i32, width: u32) -> i32 {
    if u32(b) >= width { return a >> 31u; }
    return a >> u32(b);
}
fn shift_right_u(a: u32, b: u32, width: u32) -> u32 {
    if b >= width { return 0u; }
    return a >> b;
}

fn fmod_i(a: i32, b: i32) -> i32 { return a % b; }
fn mod_i(a: i32, b: i32) -> i32 {
    let rest = a % b;
    return select(rest, rest + b, rest != 0 && (rest < 0) != (b < 0));
}
fn mod_u(a: u32, b: u32) -> u32 { return a % b; }
// Long division, each step of which is exact: the built-in remainder rounds the quotient.
fn fmod_f(a: f32, b: f32) -> f32 {
    let sign = bitcast<u32>(a) & 0x80000000u;
    let high = bitcast<u32>(a) & 0x7fffffffu;
    let low = bitcast<u32>(b) & 0x7fffffffu;
    if high >= 0x7f800000u || low > 0x7f800000u || low == 0u { return bitcast<f32>(high | 0x7fc00000u); }
    if high < low { return a; }
    var rest = bitcast<f32>(high);
    let divisor = bitcast<f32>(low);
    var shift = i32(high >> 23u) - i32(low >> 23u);
    while shift >= 0 {
        // Two factors, as one alone may be too large for a float.
        let half = shift / 2;
        let step = divisor * bitcast<f32>(u32(half + 127) << 23u) * bitcast<f32>(u32(shift - half + 127) << 23u);
        if rest >= step { rest -= step; }
        shift -= 1;
    }
    return bitcast<f32>(bitcast<u32>(rest) | sign);
}
fn mod_f(a: f32, b: f32) -> f32 {
    let rest = fmod_f(a, b);
    if nan_bits(rest) { return rest; }
    if rest == 0.0 { return bitcast<f32>(bitcast<u32>(b) & 0x80000000u); }
    if (rest < 0.0) != (b < 0.0) { return rest + b; }
    return rest;
}

fn round_half(a: f32) -> f32 { return unpack2x16float(pack2x16float(vec2<f32>(clamp(a, -65504.0, 65504.0), 0.0))).x; }
fn quantize(a: f32, zero: i32, low: i32, high: i32) -> i32 {
    if nan_bits(a) { return clamp(zero, low, high); }
    return clamp(i32(round(clamp(a, -1048576.0, 1048576.0))) + zero, low, high);
}

// The exponent is not negative, or the base is 1 or -1, or the power is less than 1.
fn pow_i(a: i32, b: i32) -> i32 {
    if b < 0 {
        if a == 1 || a == -1 { return select(a, 1, (b & 1) == 0); }
        return 0;
    }
    var power = 1;
    var square = a;
    var rest = b;
    while rest > 0 {
        if (rest & 1) == 1 { power *= square; }
        square *= square;
        rest = rest >> 1u;
    }
    return power;
}
fn pow_u(a: u32, b: u32) -> u32 {
    var power = 1u;
    var square = a;
    var rest = b;
    while rest > 0u {
        if (rest & 1u) == 1u { power *= square; }
        square *= square;
        rest = rest >> 1u;
    }
    return power;
}

// Floats as integers: truncated and saturated, NaN as 0.
fn whole_f_i(a: f32) -> i32 {
    if nan_bits(a) { return 0; }
    if a <= -2147483648.0 { return -2147483647 - 1; }
    if a >= 2147483648.0 { return 2147483647; }
    return i32(a);
}
fn whole_f_u(a: f32) -> u32 {
    if nan_bits(a) { return 0u; }
    if a <= 0.0 { return 0u; }
    if a >= 4294967296.0 { return 4294967295u; }
    return u32(a);
}
