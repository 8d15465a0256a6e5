// The scalar functions of pointwise.wgsl for what not every adapter has: suffixes _l, _ul and _d mark i64, u64 and f64.

// As pow_i.
fn pow_l(a: i64, b: i64) -> i64 {
    if b < 0li {
        if a == 1li || a == -1li { return select(a, 1li, (b & 1li) == 0li); }
        return 0li;
    }
    var power = 1li;
    var square = a;
    var rest = b;
    while rest > 0li {
        if (rest & 1li) == 1li { power *= square; }
        square *= square;
        rest = rest >> 1u;
    }
    return power;
}
fn pow_ul(a: u64, b: u64) -> u64 {
    var power = 1lu;
    var square = a;
    var rest = b;
    while rest > 0lu {
        if (rest & 1lu) == 1lu { power *= square; }
        square *= square;
        rest = rest >> 1u;
    }
    return power;
}

// Floats as integers: truncated and saturated, NaN as 0.
fn whole_f_l(a: f32) -> i64 {
    if nan_bits(a) { return 0li; }
    if a <= -9223372036854775808.0 { return -9223372036854775807li - 1li; }
    if a >= 9223372036854775808.0 { return 9223372036854775807li; }
    return i64(a);
}
fn whole_f_ul(a: f32) -> u64 {
    if nan_bits(a) { return 0lu; }
    if a <= 0.0 { return 0lu; }
    if a >= 18446744073709551616.0 { return 18446744073709551615lu; }
    return u64(a);
}
fn whole_d_i(a: f64) -> i32 {
    if nan_bits_d(a) { return 0; }
    if a <= -2147483648.0lf { return -2147483647 - 1; }
    if a >= 2147483648.0lf { return 2147483647; }
    return i32(a);
}
fn whole_d_u(a: f64) -> u32 {
    if nan_bits_d(a) { return 0u; }
    if a <= 0.0lf { return 0u; }
    if a >= 4294967296.0lf { return 4294967295u; }
    return u32(a);
}
fn whole_d_l(a: f64) -> i64 {
    if nan_bits_d(a) { return 0li; }
    if a <= -9223372036854775808.0lf { return -9223372036854775807li - 1li; }
    if a >= 9223372036854775808.0lf { return 9223372036854775807li; }
    return i64(a);
}
fn whole_d_ul(a: f64) -> u64 {
    if nan_bits_d(a) { return 0lu; }
    if a <= 0.0lf { return 0lu; }
    if a >= 18446744073709551616.0lf { return 18446744073709551615lu; }
    return u64(a);
}
fn nan_bits_d(a: f64) -> bool { return (bitcast<u64>(a) & 0x7ffffffffffffffflu) > 0x7ff0000000000000lu; }
fn add_l(a: i64, b: i64) -> i64 { return a + b; }
fn add_ul(a: u64, b: u64) -> u64 { return a + b; }
fn add_d(a: f64, b: f64) -> f64 { return a + b; }
fn sub_l(a: i64, b: i64) -> i64 { return a - b; }
fn sub_ul(a: u64, b: u64) -> u64 { return a - b; }
fn sub_d(a: f64, b: f64) -> f64 { return a - b; }
fn mul_l(a: i64, b: i64) -> i64 { return a * b; }
fn mul_ul(a: u64, b: u64) -> u64 { return a * b; }
fn mul_d(a: f64, b: f64) -> f64 { return a * b; }
fn div_d(a: f64, b: f64) -> f64 { return a / b; }

// Quotients that do not exist are 0; the one that has no place wraps.
fn div_l(a: i64, b: i64) -> i64 {
    if b == 0li { return 0li; }
    if b == -1li { return -a; }
    return a / b;
}
fn div_ul(a: u64, b: u64) -> u64 {
    if b == 0lu { return 0lu; }
    return a / b;
}
fn fmod_l(a: i64, b: i64) -> i64 {
    if b == 0li || b == -1li { return 0li; }
    return a % b;
}
fn mod_l(a: i64, b: i64) -> i64 {
    let rest = fmod_l(a, b);
    return select(rest, rest + b, rest != 0li && (rest < 0li) != (b < 0li));
}
fn mod_ul(a: u64, b: u64) -> u64 {
    if b == 0lu { return 0lu; }
    return a % b;
}
fn max_l(a: i64, b: i64) -> i64 { return select(b, a, a > b); }
fn max_ul(a: u64, b: u64) -> u64 { return select(b, a, a > b); }
fn max_d(a: f64, b: f64) -> f64 {
    if nan_bits_d(a) { return a; }
    if nan_bits_d(b) { return b; }
    return select(b, a, a > b);
}
fn min_l(a: i64, b: i64) -> i64 { return select(b, a, a < b); }
fn min_ul(a: u64, b: u64) -> u64 { return select(b, a, a < b); }
fn min_d(a: f64, b: f64) -> f64 {
    if nan_bits_d(a) { return a; }
    if nan_bits_d(b) { return b; }
    return select(b, a, a < b);
}
fn equal_l(a: i64, b: i64) -> u32 { return u32(a == b); }
fn equal_ul(a: u64, b: u64) -> u32 { return u32(a == b); }
fn equal_d(a: f64, b: f64) -> u32 { return u32(a == b && !nan_bits_d(a) && !nan_bits_d(b)); }
fn greater_l(a: i64, b: i64) -> u32 { return u32(a > b); }
fn greater_ul(a: u64, b: u64) -> u32 { return u32(a > b); }
fn greater_d(a: f64, b: f64) -> u32 { return u32(a > b && !nan_bits_d(a) && !nan_bits_d(b)); }
fn greater_equal_l(a: i64, b: i64) -> u32 { return u32(a >= b); }
fn greater_equal_ul(a: u64, b: u64) -> u32 { return u32(a >= b); }
fn greater_equal_d(a: f64, b: f64) -> u32 { return u32(a >= b && !nan_bits_d(a) && !nan_bits_d(b)); }
fn less_l(a: i64, b: i64) -> u32 { return u32(a < b); }
fn less_ul(a: u64, b: u64) -> u32 { return u32(a < b); }
fn less_d(a: f64, b: f64) -> u32 { return u32(a < b && !nan_bits_d(a) && !nan_bits_d(b)); }
fn less_equal_l(a: i64, b: i64) -> u32 { return u32(a <= b); }
fn less_equal_ul(a: u64, b: u64) -> u32 { return u32(a <= b); }
fn less_equal_d(a: f64, b: f64) -> u32 { return u32(a <= b && !nan_bits_d(a) && !nan_bits_d(b)); }
fn where_l(condition: u32, a: i64, b: i64) -> i64 { return select(b, a, condition != 0u); }
fn where_ul(condition: u32, a: u64, b: u64) -> u64 { return select(b, a, condition != 0u); }
fn where_d(condition: u32, a: f64, b: f64) -> f64 { return select(b, a, condition != 0u); }
fn to_bool_l(a: i64) -> u32 { return u32(a != 0li); }
fn to_bool_ul(a: u64) -> u32 { return u32(a != 0lu); }
fn to_bool_d(a: f64) -> u32 { return u32(nan_bits_d(a) || a != 0.0lf); }
fn abs_l(a: i64) -> i64 { return select(a, -a, a < 0li); }
fn neg_l(a: i64) -> i64 { return -a; }
fn sign_l(a: i64) -> i64 { return select(select(0li, 1li, a > 0li), -1li, a < 0li); }
fn relu_l(a: i64) -> i64 { return select(a, 0li, a < 0li); }
fn abs_d(a: f64) -> f64 { return bitcast<f64>(bitcast<u64>(a) & 0x7ffffffffffffffflu); }
fn neg_d(a: f64) -> f64 { return -a; }
fn relu_d(a: f64) -> f64 { return select(a, 0.0lf, a < 0.0lf); }
fn reciprocal_d(a: f64) -> f64 { return 1.0lf / a; }
fn sqrt_d(a: f64) -> f64 { return sqrt(a); }
fn floor_d(a: f64) -> f64 { return floor(a); }
fn ceil_d(a: f64) -> f64 { return ceil(a); }
fn bits_and_l(a: i64, b: i64) -> i64 { return a & b; }
fn bits_and_ul(a: u64, b: u64) -> u64 { return a & b; }
fn bits_or_l(a: i64, b: i64) -> i64 { return a | b; }
fn bits_or_ul(a: u64, b: u64) -> u64 { return a | b; }
fn bits_xor_l(a: i64, b: i64) -> i64 { return a ^ b; }
fn bits_xor_ul(a: u64, b: u64) -> u64 { return a ^ b; }
fn bits_not_l(a: i64) -> i64 { return ~a; }
fn bits_not_ul(a: u64) -> u64 { return ~a; }
fn bits_l_d(a: i64) -> f64 { return bitcast<f64>(a); }
fn bits_ul_d(a: u64) -> f64 { return bitcast<f64>(a); }
fn bits_d_l(a: f64) -> i64 { return bitcast<i64>(a); }
fn bits_d_ul(a: f64) -> u64 { return bitcast<u64>(a); }
fn shift_left_l(a: i64, b: i64, width: u32) -> i64 {
    if b < 0li || b >= i64(width) { return 0li; }
    return a << u32(b);
}
fn shift_left_ul(a: u64, b: u64, width: u32) -> u64 {
    if b >= u64(width) { return 0lu; }
    return a << u32(b);
}
fn shift_right_l(a: i64, b: i64, width: u32) -> i64 {
    if b < 0li || b >= i64(width) { return a >> (width - 1u); }
    return a >> u32(b);
}
fn shift_right_ul(a: u64, b: u64, width: u32) -> u64 {
    if b >= u64(width) { return 0lu; }
    return a >> u32(b);
}
