//! Element types.

use std::fmt;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 16-bit integer.
    U16,
    /// Signed 16-bit integer.
    I16,
    /// Unsigned 32-bit integer.
    U32,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 64-bit integer.
    U64,
    /// Signed 64-bit integer.
    I64,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// Two binary32: real, imaginary.
    Complex64,
    /// Two binary64: real, imaginary.
    Complex128,
    /// Unsigned 2-bit integer.
    U2,
    /// Signed 2-bit integer.
    I2,
    /// Unsigned 4-bit integer.
    U4,
    /// Signed 4-bit integer.
    I4,
    /// Float of 4 bits, 2 of them the exponent: no infinity, no NaN.
    F4E2M1,
    /// Float of 8 bits, 4 of them the exponent: no infinity.
    F8E4M3FN,
    /// The same with one zero and one NaN.
    F8E4M3FNUZ,
    /// Float of 8 bits, 5 of them the exponent.
    F8E5M2,
    /// The same without infinity, with one zero and one NaN.
    F8E5M2FNUZ,
    /// A power of two in 8 bits.
    F8E8M0,
    /// Byte strings of any length.
    String,
    /// No element type but that of a sequence: any number of values of one type.
    Sequence,
    /// That of an optional value: one value or none.
    Optional,
}

impl DType {
    /// Bits of one element; 0 where they differ in length, as strings do.
    pub fn bits(self) -> usize {
        match self {
            DType::String | DType::Sequence | DType::Optional => 0,
            DType::U2 | DType::I2 => 2,
            DType::U4 | DType::I4 | DType::F4E2M1 => 4,
            DType::Bool | DType::U8 | DType::I8 => 8,
            DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ | DType::F8E8M0 => 8,
            DType::U16 | DType::I16 | DType::F16 | DType::BF16 => 16,
            DType::U32 | DType::I32 | DType::F32 => 32,
            DType::U64 | DType::I64 | DType::F64 | DType::Complex64 => 64,
            DType::Complex128 => 128,
        }
    }

    /// Bytes of one element in host memory, where types below 8 bits take a byte each; 0 where they differ.
    pub fn bytes(self) -> usize {
        self.bits().div_ceil(8)
    }

    /// Whether it is the type of what holds tensors, not of a tensor's elements.
    pub fn is_compound(self) -> bool {
        matches!(self, DType::Sequence | DType::Optional)
    }

    /// Whether values are real floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64) || self.is_small_float()
    }

    /// Whether values are floats of at most 8 bits, held as their codes.
    pub fn is_small_float(self) -> bool {
        use DType::{F4E2M1, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0};
        matches!(self, F4E2M1 | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0)
    }

    /// The type whose form elements have in host memory: integers below 8 bits are widened, floats of at most 8 bits are
    /// their codes.
    pub fn carrier(self) -> DType {
        match self {
            DType::I2 | DType::I4 => DType::I8,
            DType::Bool | DType::U2 | DType::U4 => DType::U8,
            small if small.is_small_float() => DType::U8,
            other => other,
        }
    }

    /// Whether values are integers (bool is not).
    pub fn is_integer(self) -> bool {
        matches!(
            self,
            DType::U2
                | DType::I2
                | DType::U4
                | DType::I4
                | DType::U8
                | DType::I8
                | DType::U16
                | DType::I16
                | DType::U32
                | DType::I32
                | DType::U64
                | DType::I64
        )
    }

    /// The least and greatest value of an integer type of at most 16 bits; of a bool 0 and 1; 0 and 0 for other types.
    pub fn small_range(self) -> (i64, i64) {
        match self {
            DType::Bool => (0, 1),
            DType::U2 | DType::U4 | DType::U8 | DType::U16 => (0, (1 << self.bits()) - 1),
            DType::I2 | DType::I4 | DType::I8 | DType::I16 => (-(1 << (self.bits() - 1)), (1 << (self.bits() - 1)) - 1),
            _ => (0, 0),
        }
    }

    /// Lower-case name, e.g. `f32`.
    pub fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::U8 => "u8",
            DType::I8 => "i8",
            DType::U16 => "u16",
            DType::I16 => "i16",
            DType::U32 => "u32",
            DType::I32 => "i32",
            DType::U64 => "u64",
            DType::I64 => "i64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::Complex64 => "complex64",
            DType::Complex128 => "complex128",
            DType::U2 => "u2",
            DType::I2 => "i2",
            DType::U4 => "u4",
            DType::I4 => "i4",
            DType::F4E2M1 => "f4e2m1",
            DType::F8E4M3FN => "f8e4m3fn",
            DType::F8E4M3FNUZ => "f8e4m3fnuz",
            DType::F8E5M2 => "f8e5m2",
            DType::F8E5M2FNUZ => "f8e5m2fnuz",
            DType::F8E8M0 => "f8e8m0",
            DType::String => "string",
            DType::Sequence => "sequence",
            DType::Optional => "optional",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
