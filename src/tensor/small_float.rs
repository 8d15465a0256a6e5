//! Floats of 8 and 4 bits.
//!
//! Layouts after the OCP 8-bit Floating Point Specification, the OCP Microscaling Formats Specification, and ONNX for the
//! variants without a negative zero.

use super::dtype::DType;

/// How a value between two powers of two becomes one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PowerRounding {
    /// To the larger.
    #[default]
    Up,
    /// To the smaller.
    Down,
    /// To the nearer; up from the middle.
    Nearest,
}

/// What becomes of values that a type cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rounding {
    /// Whether values beyond the largest become the largest instead of infinity or NaN.
    pub saturate: bool,
    /// How powers of two are chosen; other types round to the nearest, ties to even.
    pub power: PowerRounding,
}

impl Default for Rounding {
    fn default() -> Self {
        Self { saturate: true, power: PowerRounding::Up }
    }
}

/// The layout of a float of at most 8 bits with sign, exponent and fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SmallFloat {
    /// Bits of the fraction.
    pub fraction_bits: i32,
    /// What is added to exponents.
    pub bias: i32,
    /// The largest finite value.
    pub max: f32,
    /// The code of positive infinity, if there is one.
    pub infinity: Option<u8>,
    /// The code of NaN, if there is one.
    pub nan: Option<u8>,
    /// Whether zero has a sign. Where it has none, NaN has none either.
    pub signed_zero: bool,
    sign: u8,
}

impl SmallFloat {
    /// The layout of `dtype`, if it is such a type.
    pub fn of(dtype: DType) -> Option<Self> {
        let eight = |fraction_bits, bias, max, infinity, nan, signed_zero| Self {
            fraction_bits,
            bias,
            max,
            infinity,
            nan: Some(nan),
            signed_zero,
            sign: 0x80,
        };
        match dtype {
            DType::F8E4M3FN => Some(eight(3, 7, 448.0, None, 0x7f, true)),
            DType::F8E4M3FNUZ => Some(eight(3, 8, 240.0, None, 0x80, false)),
            DType::F8E5M2 => Some(eight(2, 15, 57344.0, Some(0x7c), 0x7f, true)),
            DType::F8E5M2FNUZ => Some(eight(2, 16, 57344.0, None, 0x80, false)),
            DType::F4E2M1 => Some(Self { nan: None, sign: 8, ..eight(1, 1, 6.0, None, 0, true) }),
            _ => None,
        }
    }

    /// The value of `code`.
    pub fn decode(&self, code: u8) -> f32 {
        let magnitude = code & (self.sign - 1);
        let negative = code & self.sign != 0;
        let is_nan = match self.nan {
            Some(nan) if self.signed_zero => match self.infinity {
                Some(infinity) => magnitude > infinity,
                None => magnitude == nan,
            },
            Some(nan) => code == nan,
            None => false,
        };
        let size = if is_nan {
            f32::NAN
        } else if self.infinity == Some(magnitude) {
            f32::INFINITY
        } else {
            let fraction = f32::from(magnitude & ((1 << self.fraction_bits) - 1));
            let exponent = i32::from(magnitude >> self.fraction_bits);
            let whole = if exponent == 0 { 0.0 } else { f32::from(1u8 << self.fraction_bits) };
            (whole + fraction) * 2f32.powi(exponent.max(1) - self.bias - self.fraction_bits)
        };
        if negative { -size } else { size }
    }

    /// The code of the nearest value, ties to even.
    pub fn encode(&self, value: f64, saturate: bool) -> u8 {
        let sign = if value.is_sign_negative() && self.signed_zero { self.sign } else { 0 };
        if value.is_nan() {
            // A type without NaN gives what the ONNX test suite expects, its negative zero.
            return self.nan.map_or(self.sign, |nan| nan | sign);
        }
        let exponent = exponent_of(value.abs()).max(1 - self.bias);
        let step = 2f64.powi(exponent - self.fraction_bits);
        let rounded = (value.abs() / step).round_ties_even() * step;
        if rounded > f64::from(self.max) {
            return match (saturate, self.infinity, self.nan) {
                (false, Some(infinity), _) => infinity | sign,
                (false, None, Some(nan)) => nan | sign,
                _ => self.largest() | if value < 0.0 { self.sign } else { 0 },
            };
        }
        let code = self.magnitude_code(rounded);
        if code == 0 { sign } else { code | if value < 0.0 { self.sign } else { 0 } }
    }

    fn largest(&self) -> u8 {
        self.magnitude_code(f64::from(self.max))
    }

    /// The code of a value of this type that is not negative.
    fn magnitude_code(&self, value: f64) -> u8 {
        let exponent = exponent_of(value);
        if exponent < 1 - self.bias {
            return (value / 2f64.powi(1 - self.bias - self.fraction_bits)) as u8;
        }
        let fraction = (value / 2f64.powi(exponent) - 1.0) * 2f64.powi(self.fraction_bits);
        (((exponent + self.bias) as u8) << self.fraction_bits) | fraction as u8
    }
}

/// ⌊log₂ value⌋; far below every type here for zero and subnormals, far above for infinity.
fn exponent_of(value: f64) -> i32 {
    ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023
}

/// The value of an E8M0 code: a power of two, or NaN.
pub fn power_of_code(code: u8) -> f32 {
    match code {
        0xff => f32::NAN,
        0 => f32::from_bits(1 << 22),
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

/// The E8M0 code of `value`. Values that are not positive are the smallest power, or NaN without saturation.
pub fn code_of_power(value: f64, rounding: Rounding) -> u8 {
    if value.is_nan() {
        return 0xff;
    }
    let fraction = value.to_bits() & ((1 << 52) - 1);
    let up = match rounding.power {
        PowerRounding::Up => fraction != 0,
        PowerRounding::Down => false,
        PowerRounding::Nearest => fraction >= 1 << 51,
    };
    let exponent = exponent_of(value.abs()) + i32::from(up);
    match exponent + 127 {
        _ if value <= 0.0 => {
            if rounding.saturate {
                0
            } else {
                0xff
            }
        }
        code @ 0..=254 => code as u8,
        _ if !rounding.saturate => 0xff,
        code => {
            if code < 0 {
                0
            } else {
                254
            }
        }
    }
}

/// The value of `code` in `dtype`; `None` when `dtype` is no float of at most 8 bits.
pub fn decode(dtype: DType, code: u8) -> Option<f32> {
    if dtype == DType::F8E8M0 {
        return Some(power_of_code(code));
    }
    Some(SmallFloat::of(dtype)?.decode(code))
}

/// The code of `value` in `dtype`; `None` when `dtype` is no float of at most 8 bits.
pub fn encode(dtype: DType, value: f64, rounding: Rounding) -> Option<u8> {
    if dtype == DType::F8E8M0 {
        return Some(code_of_power(value, rounding));
    }
    Some(SmallFloat::of(dtype)?.encode(value, rounding.saturate))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [DType; 6] =
        [DType::F8E4M3FN, DType::F8E4M3FNUZ, DType::F8E5M2, DType::F8E5M2FNUZ, DType::F8E8M0, DType::F4E2M1];

    #[test]
    fn every_code_comes_back() {
        let exact = Rounding { saturate: false, power: PowerRounding::Down };
        for dtype in ALL {
            for code in 0..=((1u16 << dtype.bits()) - 1) as u8 {
                let value = decode(dtype, code).expect("a small float");
                let back = encode(dtype, f64::from(value), exact).expect("a small float");
                let both_nan = value.is_nan() && decode(dtype, back).is_some_and(f32::is_nan);
                assert!(back == code || both_nan, "{dtype} {code:#x} is {value}, came back as {back:#x}");
            }
        }
    }

    #[test]
    fn ties_go_to_even_and_the_largest_holds() {
        let e4m3 = SmallFloat::of(DType::F8E4M3FN).expect("a small float");
        assert_eq!(e4m3.decode(e4m3.encode(17.0, true)), 16.0);
        assert_eq!(e4m3.decode(e4m3.encode(19.0, true)), 20.0);
        assert_eq!(e4m3.decode(e4m3.encode(464.0, false)), 448.0);
        assert!(e4m3.decode(e4m3.encode(465.0, false)).is_nan());
        assert_eq!(e4m3.decode(e4m3.encode(-1e9, true)), -448.0);
        let e5m2 = SmallFloat::of(DType::F8E5M2).expect("a small float");
        assert_eq!(e5m2.decode(e5m2.encode(1e6, false)), f32::INFINITY);
    }

    #[test]
    fn powers_round_as_asked() {
        let code = |value, power| code_of_power(value, Rounding { saturate: true, power });
        assert_eq!(power_of_code(code(1.1, PowerRounding::Up)), 2.0);
        assert_eq!(power_of_code(code(1.9, PowerRounding::Down)), 1.0);
        assert_eq!(power_of_code(code(1.5, PowerRounding::Nearest)), 2.0);
        assert_eq!(code(0.0, PowerRounding::Up), 0);
        assert_eq!(code(f64::INFINITY, PowerRounding::Up), 254);
    }
}
