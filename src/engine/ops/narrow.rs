//! Bringing values of a chain into the range of a type narrower than what they are computed in.

use crate::engine::ir::{Class, PointwiseBuilder, Reg};
use crate::tensor::DType;
use crate::tensor::small_float::{PowerRounding, Rounding, SmallFloat};

/// Whether `dtype` is an integer type below 32 bits.
pub(super) fn is_narrow(dtype: DType) -> bool {
    dtype.is_integer() && dtype.bits() < 32
}

/// The integer `value` wrapped to the width of `dtype`, an integer type of at most 32 bits.
pub(super) fn wrap(builder: &mut PointwiseBuilder<'_>, value: Reg, dtype: DType) -> Option<Reg> {
    let class = builder.class_of(dtype)?;
    let value = builder.convert(value, class);
    if !is_narrow(dtype) {
        return Some(value);
    }
    let (unused, function) = match class {
        Class::I32 => (32 - dtype.bits(), "wrap_i"),
        Class::U32 => (32 - dtype.bits(), "wrap_u"),
        _ => return None,
    };
    let unused = builder.constant_u32(u32::try_from(unused).ok()?);
    Some(builder.call(function, &[value, unused], class))
}

/// Beyond this size floats have no bits that integers below 8 bits keep: what is larger may stop here.
pub(super) const WRAPPING_LIMIT: f32 = 1_073_741_824.0;

/// The float `value` as the integer type `dtype` below 32 bits: truncated, and saturated, or wrapped below 8 bits as the
/// ONNX test suite expects; NaN as 0.
pub(super) fn truncate(builder: &mut PointwiseBuilder<'_>, value: Reg, dtype: DType) -> Option<Reg> {
    let class = builder.class_of(dtype)?;
    if dtype.bits() < 8 {
        let limits = [builder.constant_f32(-WRAPPING_LIMIT), builder.constant_f32(WRAPPING_LIMIT)];
        let inside = builder.call("clamp_number", &[value, limits[0], limits[1]], Class::F32);
        let whole = builder.convert(inside, Class::I32);
        return wrap(builder, whole, dtype);
    }
    let (low, high) = dtype.small_range();
    let (low, high) = (builder.constant_f32(low as f32), builder.constant_f32(high as f32));
    let inside = builder.call("clamp_number", &[value, low, high], Class::F32);
    Some(builder.convert(inside, class))
}

/// The number `value` as the nearest one of `dtype`, a float type below 32 bits that has no storage of its own.
pub(super) fn round(builder: &mut PointwiseBuilder<'_>, value: Reg, dtype: DType, rounding: Rounding) -> Option<Reg> {
    let value = builder.convert(value, Class::F32);
    if dtype == DType::BF16 {
        return Some(builder.call("round_bf16", &[value], Class::F32));
    }
    let saturate = builder.constant_u32(u32::from(rounding.saturate));
    if dtype == DType::F8E8M0 {
        let power = match rounding.power {
            PowerRounding::Up => 1,
            PowerRounding::Down => 1 << 23,
            PowerRounding::Nearest => 1 << 22,
        };
        let threshold = builder.constant_u32(power);
        return Some(builder.call("round_power", &[value, threshold, saturate], Class::F32));
    }
    let format = SmallFloat::of(dtype)?;
    let nan = if format.nan.is_some() { f32::NAN } else { -0.0 };
    let beyond = match (rounding.saturate || format.nan.is_none(), format.infinity) {
        (true, _) => format.max,
        (false, Some(_)) => f32::INFINITY,
        (false, None) => f32::NAN,
    };
    let numbers = [
        builder.constant_i32(1 - format.bias),
        builder.constant_i32(format.fraction_bits),
        builder.constant_f32(format.max),
        builder.constant_u32(beyond.to_bits()),
        builder.constant_u32(nan.to_bits()),
    ];
    Some(builder.call("round_small", &[value, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]], Class::F32))
}
