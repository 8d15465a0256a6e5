//! What an adapter can do, as plain data.

use std::str::FromStr;

use super::packing::Packing;
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// How an element lies in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Storage {
    /// 32-bit float.
    F32,
    /// 16-bit float, computed in 32 bits.
    F16,
    /// 32-bit signed integer.
    I32,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit signed integer.
    I64,
    /// 64-bit unsigned integer.
    U64,
    /// 64-bit float.
    F64,
    /// Integers sharing words: constants only.
    Packed(Packing),
}

impl Storage {
    /// Bytes of one element on the device, or of one word of a packed constant.
    pub fn bytes(self) -> usize {
        match self {
            Storage::F16 => 2,
            Storage::F32 | Storage::I32 | Storage::U32 | Storage::Packed(_) => 4,
            Storage::I64 | Storage::U64 | Storage::F64 => 8,
        }
    }

    /// Bytes of `elements` elements on the device, before rounding up to whole words.
    pub fn size(self, elements: usize) -> usize {
        match self {
            Storage::Packed(packing) => elements.div_ceil(packing.per_word()).saturating_mul(4),
            _ => elements.saturating_mul(self.bytes()),
        }
    }

    /// The WGSL scalar type.
    pub fn wgsl(self) -> &'static str {
        match self {
            Storage::F32 => "f32",
            Storage::F16 => "f16",
            Storage::I32 => "i32",
            Storage::U32 | Storage::Packed(_) => "u32",
            Storage::I64 => "i64",
            Storage::U64 => "u64",
            Storage::F64 => "f64",
        }
    }

    /// The type that values of this storage are computed in.
    pub fn class(self) -> Class {
        match self {
            Storage::F32 | Storage::F16 => Class::F32,
            Storage::I32 | Storage::Packed(Packing { signed: true, .. }) => Class::I32,
            Storage::U32 | Storage::Packed(_) => Class::U32,
            Storage::I64 => Class::I64,
            Storage::U64 => Class::U64,
            Storage::F64 => Class::F64,
        }
    }
}

/// The types that kernels compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// `f32`, for every float storage.
    F32,
    /// `i32`, for signed integers.
    I32,
    /// `u32`, for unsigned integers and bools (0 or 1).
    U32,
    /// `i64`, where shaders have it.
    I64,
    /// `u64`, where shaders have it.
    U64,
    /// `f64`, where shaders have it.
    F64,
}

impl Class {
    /// The WGSL scalar type.
    pub fn wgsl(self) -> &'static str {
        match self {
            Class::F32 => "f32",
            Class::I32 => "i32",
            Class::U32 => "u32",
            Class::I64 => "i64",
            Class::U64 => "u64",
            Class::F64 => "f64",
        }
    }

    /// What the names of library functions of this class end in.
    pub fn suffix(self) -> &'static str {
        match self {
            Class::F32 => "f",
            Class::I32 => "i",
            Class::U32 => "u",
            Class::I64 => "l",
            Class::U64 => "ul",
            Class::F64 => "d",
        }
    }

    /// Whether values take 64 bits.
    pub fn is_wide(self) -> bool {
        matches!(self, Class::I64 | Class::U64 | Class::F64)
    }
}

/// Which kind of kernel suits the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// A CPU that emulates a GPU: no barriers, operands broadcast inside a subgroup.
    Software,
    /// A GPU: tiles in workgroup memory.
    Gpu,
}

/// How floats are stored on the device; they are computed with in 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Each as the model has it, where the adapter can.
    #[default]
    Auto,
    /// All in 32 bits.
    F32,
    /// All in 16 bits, where the adapter has them.
    F16,
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Precision::Auto),
            "f32" => Ok(Precision::F32),
            "f16" => Ok(Precision::F16),
            other => Err(Error::invalid_argument(format!("precision is {other:?}: say auto, f32 or f16"))),
        }
    }
}

/// Matrices that a subgroup multiplies as one: 16-bit floats in, sums of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragments {
    /// Rows, columns and terms: 8 or 16 of each.
    pub size: u32,
    /// Invocations of a subgroup.
    pub lanes: u32,
    /// Whether they can be read from arrays of vectors of four.
    pub wide: bool,
}

/// What an adapter can do, after masking. Equal profiles compile to equal programs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Profile {
    /// Which kernels suit it.
    pub family: Family,
    /// Whether 16-bit floats can be stored and loaded in shaders.
    pub f16: bool,
    /// Whether shaders have 64-bit integers.
    pub int64: bool,
    /// Whether shaders have 64-bit floats.
    pub f64: bool,
    /// The size of every subgroup, where subgroup operations exist and the size never varies.
    pub subgroup: Option<u32>,
    /// Storage buffers that one dispatch may bind.
    pub max_storage_buffers: u32,
    /// Bytes of one storage binding.
    pub max_binding_bytes: u64,
    /// Workgroups along each grid axis.
    pub max_workgroups: u32,
    /// Invocations in a workgroup.
    pub max_invocations: u32,
    /// Bytes of workgroup memory.
    pub max_workgroup_bytes: u32,
    /// Whether 32-bit floats are stored as 16-bit ones where those exist, because a model's settings say so.
    pub half_precision: bool,
    /// Whether long kernels without loops are worth the time that compiling them takes: not where a CPU runs them.
    pub unrolls: bool,
    /// What its subgroups multiply as one, where that may be used.
    pub fragments: Option<Fragments>,
}

impl Profile {
    /// What every adapter has: WebGPU's default limits and nothing optional.
    pub fn plain(family: Family) -> Self {
        Self {
            family,
            f16: false,
            int64: false,
            f64: false,
            subgroup: None,
            max_storage_buffers: 8,
            max_binding_bytes: 128 << 20,
            max_workgroups: 65_535,
            max_invocations: 256,
            max_workgroup_bytes: 16 << 10,
            half_precision: false,
            unrolls: family == Family::Gpu,
            fragments: None,
        }
    }

    /// Whether 16-bit floats are stored as such.
    pub fn stores_f16(&self) -> bool {
        self.f16 && self.family == Family::Gpu
    }

    /// Stores floats as `precision` says, where the adapter can.
    pub fn apply(&mut self, precision: Precision) {
        match precision {
            Precision::F32 => self.f16 = false,
            Precision::F16 => self.half_precision = self.stores_f16(),
            Precision::Auto => {}
        }
    }

    /// How a constant lies on this device for a reader that takes packed integers.
    pub fn constant_storage(&self, constant: &Tensor) -> Option<Storage> {
        match Packing::of_constant(constant) {
            Some(packing) => Some(Storage::Packed(packing)),
            None => self.storage(constant.dtype()),
        }
    }

    /// How values of `dtype` lie on this device; `None` when they stay on the host. Where shaders have no 64-bit integers,
    /// signed ones lie as 32-bit ones: operators that could leave that range do not run on the device, uploads are checked.
    pub fn storage(&self, dtype: DType) -> Option<Storage> {
        match dtype {
            DType::F32 if self.half_precision && self.stores_f16() => Some(Storage::F16),
            DType::F32 => Some(Storage::F32),
            // Software adapters convert 16-bit floats at every load, slowly: there all are widened.
            DType::F16 if self.stores_f16() => Some(Storage::F16),
            DType::F16 => Some(Storage::F32),
            // Exact in 32-bit floats. What is computed from them is rounded when it is read back, casts round at once.
            DType::BF16 => Some(Storage::F32),
            small if small.is_small_float() => Some(Storage::F32),
            DType::F64 => self.f64.then_some(Storage::F64),
            DType::I64 if self.int64 => Some(Storage::I64),
            DType::U64 => self.int64.then_some(Storage::U64),
            DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::I4 | DType::I2 => Some(Storage::I32),
            DType::U32 | DType::U16 | DType::U8 | DType::U4 | DType::U2 | DType::Bool => Some(Storage::U32),
            _ => None,
        }
    }
}
