//! Operators by name.

use std::sync::Arc;

use crate::engine::ir::{Attributes, Op};
use crate::error::{Error, Result};

/// One node as an importer found it.
#[derive(Clone, Debug)]
pub struct OpSpec<'a> {
    /// The operator's domain; empty for ONNX's own.
    pub domain: &'a str,
    /// The operator's name.
    pub name: &'a str,
    /// The version of the domain that the model asks for.
    pub opset: i64,
    /// Its attributes.
    pub attributes: &'a Attributes,
    /// How many inputs the node lists.
    pub inputs: usize,
    /// How many outputs the node lists.
    pub outputs: usize,
}

type Constructor = fn(&OpSpec<'_>) -> Result<Arc<dyn Op>>;

/// (domain, name, constructor): one line an operator.
const OPERATORS: &[(&str, &str, Constructor)] = &[
    ("", "Abs", super::unary::unary),
    ("", "Acos", super::unary::unary),
    ("", "Acosh", super::unary::unary),
    ("", "Add", super::arithmetic::add),
    ("", "Affine", super::unary::unary),
    ("", "AffineGrid", super::frames::affine_grid),
    ("", "And", super::compare::and),
    ("", "Asin", super::unary::unary),
    ("", "Asinh", super::unary::unary),
    ("", "Atan", super::unary::unary),
    ("", "Atanh", super::unary::unary),
    ("", "AveragePool", super::pool::average_pool),
    ("", "BatchNormalization", super::batch_normalization::batch_normalization),
    ("", "BitCast", super::bits::bit_cast),
    ("", "BitShift", super::bits::bit_shift),
    ("", "BitwiseAnd", super::bits::bitwise),
    ("", "BitwiseNot", super::bits::bitwise),
    ("", "BitwiseOr", super::bits::bitwise),
    ("", "BitwiseXor", super::bits::bitwise),
    ("", "BlackmanWindow", super::windows::blackman_window),
    ("", "Cast", super::cast::cast),
    ("", "CastLike", super::cast::cast_like),
    ("", "Ceil", super::unary::unary),
    ("", "Celu", super::unary::unary),
    ("", "CenterCropPad", super::frames::center_crop_pad),
    ("", "Clip", super::clip::clip),
    ("", "Col2Im", super::col2im::col2im),
    ("", "Concat", super::concat::concat),
    ("", "Constant", super::constants::constant),
    ("", "ConstantOfShape", super::constants::constant_of_shape),
    ("", "Conv", super::conv::conv),
    ("", "ConvTranspose", super::conv_transpose::conv_transpose),
    ("", "Cos", super::unary::unary),
    ("", "Cosh", super::unary::unary),
    ("", "Crop", super::frames::crop),
    ("", "DFT", super::fourier::dft),
    ("", "DeformConv", super::deform_conv::deform_conv),
    ("", "DepthToSpace", super::rearrange::depth_to_space),
    ("", "DequantizeLinear", super::quantize::dequantize),
    ("", "Det", super::det::det),
    ("", "Div", super::arithmetic::div),
    ("", "Dropout", super::views::dropout),
    ("", "DynamicQuantizeLinear", super::quantize_dynamic::dynamic_quantize),
    ("", "Elu", super::unary::unary),
    ("", "Equal", super::compare::equal),
    ("", "Erf", super::unary::unary),
    ("", "Exp", super::unary::unary),
    ("", "Expand", super::rearrange::expand),
    ("", "Flatten", super::views::flatten),
    ("", "Floor", super::unary::unary),
    ("", "Gather", super::gather::gather),
    ("", "Gelu", super::unary::gelu),
    ("", "Gemm", super::gemm::gemm),
    ("", "GlobalAveragePool", super::reduce::reduce),
    ("", "GlobalLpPool", super::norms::global_lp_pool),
    ("", "GlobalMaxPool", super::reduce::reduce),
    ("", "Greater", super::compare::greater),
    ("", "GreaterOrEqual", super::compare::greater_or_equal),
    ("", "GridSample", super::grid_sample::grid_sample),
    ("", "HammingWindow", super::windows::hamming_window),
    ("", "HannWindow", super::windows::hann_window),
    ("", "HardSigmoid", super::unary::unary),
    ("", "HardSwish", super::unary::unary),
    ("", "Identity", super::views::identity),
    ("", "If", super::branch::branch),
    ("", "ImageDecoder", super::image_decoder::image_decoder),
    ("", "ImageScaler", super::frames::image_scaler),
    ("", "IsInf", super::unary::unary),
    ("", "IsNaN", super::unary::unary),
    ("", "LRN", super::lrn::lrn),
    ("", "LeakyRelu", super::unary::unary),
    ("", "Less", super::compare::less),
    ("", "LessOrEqual", super::compare::less_or_equal),
    ("", "Log", super::unary::unary),
    ("", "LogSoftmax", super::softmax::softmax),
    ("", "Loop", super::repeat::repeat),
    ("", "LpNormalization", super::norms::lp_normalization),
    ("", "LpPool", super::pool::lp_pool),
    ("", "MatMul", super::matmul::matmul),
    ("", "Max", super::arithmetic::max),
    ("", "MaxPool", super::pool::max_pool),
    ("", "MaxRoiPool", super::roi::max_roi_pool),
    ("", "MaxUnpool", super::max_unpool::max_unpool),
    ("", "Mean", super::arithmetic::mean),
    ("", "MelWeightMatrix", super::windows::mel_weight_matrix),
    ("", "Min", super::arithmetic::min),
    ("", "Mish", super::unary::unary),
    ("", "Mod", super::modulo::modulo),
    ("", "Mul", super::arithmetic::mul),
    ("", "Neg", super::unary::unary),
    ("", "Not", super::unary::unary),
    ("", "Or", super::compare::or),
    ("", "PRelu", super::clip::prelu),
    ("", "Pad", super::pad::pad),
    ("", "ParametricSoftplus", super::unary::unary),
    ("", "Pow", super::arithmetic::pow),
    ("", "QuantizeLinear", super::quantize::quantize),
    ("", "Range", super::constants::range),
    ("", "Reciprocal", super::unary::unary),
    ("", "ReduceL1", super::reduce::reduce),
    ("", "ReduceL2", super::reduce::reduce),
    ("", "ReduceLogSum", super::reduce::reduce),
    ("", "ReduceLogSumExp", super::reduce::reduce),
    ("", "ReduceMax", super::reduce::reduce),
    ("", "ReduceMean", super::reduce::reduce),
    ("", "ReduceMin", super::reduce::reduce),
    ("", "ReduceProd", super::reduce::reduce),
    ("", "ReduceSum", super::reduce::reduce),
    ("", "ReduceSumSquare", super::reduce::reduce),
    ("", "Relu", super::unary::unary),
    ("", "Reshape", super::views::reshape),
    ("", "Resize", super::resize::resize),
    ("", "RoiAlign", super::roi::roi_align),
    ("", "Round", super::unary::unary),
    ("", "STFT", super::fourier::stft),
    ("", "ScaledTanh", super::unary::unary),
    ("", "Scan", super::scan::scan),
    ("", "Selu", super::unary::unary),
    ("", "Shape", super::constants::shape),
    ("", "Shrink", super::unary::unary),
    ("", "Sigmoid", super::unary::unary),
    ("", "Sign", super::unary::unary),
    ("", "Sin", super::unary::unary),
    ("", "Sinh", super::unary::unary),
    ("", "Size", super::constants::size),
    ("", "Slice", super::slice::slice),
    ("", "Softmax", super::softmax::softmax),
    ("", "Softplus", super::unary::unary),
    ("", "Softsign", super::unary::unary),
    ("", "SpaceToDepth", super::rearrange::space_to_depth),
    ("", "Split", super::concat::split),
    ("", "Sqrt", super::unary::unary),
    ("", "Squeeze", super::views::squeeze),
    ("", "Sub", super::arithmetic::sub),
    ("", "Sum", super::arithmetic::sum),
    ("", "Swish", super::unary::unary),
    ("", "Tan", super::unary::unary),
    ("", "Tanh", super::unary::unary),
    ("", "ThresholdedRelu", super::unary::unary),
    ("", "Tile", super::rearrange::tile),
    ("", "Transpose", super::rearrange::transpose),
    ("", "Unsqueeze", super::views::unsqueeze),
    ("", "Upsample", super::resize::upsample),
    ("", "Where", super::compare::select),
    ("", "Xor", super::compare::xor),
    ("com.microsoft", "DequantizeLinear", super::quantize::dequantize),
    ("com.microsoft", "QuantizeLinear", super::quantize::quantize),
];

/// The operator that `spec` asks for.
///
/// # Errors
/// `UNIMPLEMENTED` for an operator or variant that does not exist here; `INVALID_ARGUMENT` for attributes that are wrong.
pub fn build(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let domain = if spec.domain == "ai.onnx" { "" } else { spec.domain };
    let found = OPERATORS.iter().find(|(d, name, _)| *d == domain && *name == spec.name);
    let (_, _, constructor) =
        found.ok_or_else(|| Error::unimplemented(format!("operator {} is not supported", spec.name)))?;
    constructor(spec)
}

/// Every operator's domain and name.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    OPERATORS.iter().map(|(domain, name, _)| (*domain, *name))
}
