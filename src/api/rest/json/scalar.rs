//! Single values of JSON as elements of tensors.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use half::{bf16, f16};

use super::text::Text;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// Padding may be there or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What a single value of JSON, neither list nor null, may be read as.
pub(super) trait Scalar: Sized + Send {
    /// The type of the tensor's elements.
    const DTYPE: DType;

    /// Reads the value that begins here; `None` when it is of another type, and then the cursor may stand anywhere.
    fn read(text: &mut Text<'_>) -> Result<Option<Self>>;

    /// A tensor of them.
    fn tensor(shape: Shape, values: Vec<Self>) -> Result<Tensor>;
}

macro_rules! numbers {
    ($($rust:ty: $dtype:ident, $read:expr;)*) => { $(
        impl Scalar for $rust {
            const DTYPE: DType = DType::$dtype;

            #[inline]
            fn read(text: &mut Text<'_>) -> Result<Option<Self>> {
                let read: fn(&str) -> Option<Self> = $read;
                Ok(read(text.token()))
            }

            fn tensor(shape: Shape, values: Vec<Self>) -> Result<Tensor> {
                Tensor::from_vec(shape, values)
            }
        }
    )* };
}

// Rust reads the grammar of JSON's numbers, NaN and infinities included; what is too large becomes infinite, what is too
// small zero. Integers of up to 16 bits wrap, as those in TensorFlow's messages do.
numbers! {
    f32: F32, |token| token.parse().ok();
    f64: F64, |token| token.parse().ok();
    f16: F16, |token| token.parse().ok().map(f16::from_f64);
    bf16: BF16, |token| token.parse().ok().map(bf16::from_f64);
    i8: I8, |token| token.parse::<i32>().ok().map(|v| v as i8);
    u8: U8, |token| token.parse::<i32>().ok().map(|v| v as u8);
    i16: I16, |token| token.parse::<i32>().ok().map(|v| v as i16);
    u16: U16, |token| token.parse::<i32>().ok().map(|v| v as u16);
    i32: I32, |token| token.parse().ok();
    u32: U32, |token| token.parse().ok();
    i64: I64, |token| token.parse().ok();
    u64: U64, |token| token.parse().ok();
}

impl Scalar for bool {
    const DTYPE: DType = DType::Bool;

    fn read(text: &mut Text<'_>) -> Result<Option<Self>> {
        Ok(text.token().parse().ok())
    }

    fn tensor(shape: Shape, values: Vec<Self>) -> Result<Tensor> {
        Tensor::from_bools(shape, values.into_iter().map(u8::from).collect())
    }
}

impl Scalar for Bytes {
    const DTYPE: DType = DType::String;

    fn read(text: &mut Text<'_>) -> Result<Option<Self>> {
        match text.peek() {
            Some(b'"') => Ok(Some(Bytes::from(text.string()?.into_owned()))),
            Some(b'{') => base64_object(text).map(Some),
            _ => Ok(None),
        }
    }

    fn tensor(shape: Shape, values: Vec<Self>) -> Result<Tensor> {
        Tensor::from_strings(shape, values)
    }
}

/// The bytes that `{"b64": "…"}` stands for.
///
/// # Errors
/// `INVALID_ARGUMENT` for another object, or text that is not base64.
pub(in crate::api::rest) fn base64_object(text: &mut Text<'_>) -> Result<Bytes> {
    if !text.is_base64() {
        let value = text.excerpt();
        return Err(Error::invalid_argument(format!("JSON Value: {value} not formatted correctly for base64 data")));
    }
    let mut bytes = Vec::new();
    text.object(|text, _| {
        let coded = text.string()?;
        bytes = BASE64.decode(&*coded).map_err(|_| Error::invalid_argument("Unable to base64 decode"))?;
        Ok(())
    })?;
    Ok(bytes.into())
}
