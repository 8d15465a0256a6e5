//! com.microsoft's operators against numbers computed by ONNX Runtime (one thread).

use super::registry::{OpSpec, build};
use crate::engine::ir::{Attribute, Attributes};
use crate::tensor::Tensor;

/// Numbers from −0.8 to 0.8 in steps of 0.1 that look random.
fn counted(shape: &[usize], seed: usize) -> Option<Tensor> {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|i| ((i * 37 + seed * 5) % 17) as f32 * 0.1 - 0.8).collect();
    Some(Tensor::from_vec(shape, values).expect("as many"))
}

fn bytes(shape: &[usize], seed: usize) -> Option<Tensor> {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|i| (((i * 37 + seed * 5) % 17) as i32 * 15 - 120) as i8).collect();
    Some(Tensor::from_vec(shape, values).expect("as many"))
}

fn integers(shape: &[usize], values: &[i32]) -> Option<Tensor> {
    Some(Tensor::from_vec(shape, values.to_vec()).expect("as many"))
}

fn int(value: i64) -> Attribute {
    Attribute::Int(value)
}

/// Checks the first values of each output, which may be left out as an empty list.
fn check(name: &str, attributes: &[(&str, Attribute)], inputs: &[Option<Tensor>], expected: &[&[f64]]) {
    let mut all = Attributes::new();
    for (name, value) in attributes {
        all.set(*name, value.clone());
    }
    let (inputs, outputs) = (inputs.iter().map(Option::as_ref).collect::<Vec<_>>(), expected.len());
    let spec = OpSpec { domain: "com.microsoft", name, opset: 1, attributes: &all, inputs: inputs.len(), outputs };
    let found = build(&spec).expect("it is there").evaluate(&inputs).expect("it takes these inputs");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let found = found.to_f64s().expect("real");
        for (i, (a, b)) in found.iter().zip(*expected).enumerate() {
            assert!((a - b).abs() < 2e-6, "{name}: element {i} of output {index} is {a}, not {b}");
        }
    }
}

#[test]
fn products() {
    let flags = [("transBatchA", int(1)), ("transA", int(1)), ("alpha", Attribute::Float(0.5))];
    let inputs = [counted(&[2, 2, 3], 0), counted(&[2, 2, 2], 1)];
    check("FusedMatMul", &flags, &inputs, &[&[0.015, -0.21, 0.015, -0.12, 0.015, -0.03, -0.06, -0.015]]);
    let bent = |name, alpha| [("activation", Attribute::String("LeakyRelu".into())), (name, alpha)];
    let inputs = [counted(&[1, 1, 3, 3], 0), counted(&[1, 1, 2, 2], 1), counted(&[1], 2)];
    let leaky = bent("activation_params", Attribute::Floats(vec![0.2]));
    check("FusedConv", &leaky, &inputs, &[&[0.71, 0.89, -0.056, -0.02]]);
    let inputs = [counted(&[2, 3], 0), counted(&[3, 2], 1), counted(&[2], 2)];
    let leaky = bent("activation_alpha", Attribute::Float(0.3));
    let transposed = [counted(&[2, 3], 0), counted(&[2, 3], 1), inputs[2].clone()];
    let with_b = [leaky[0].clone(), leaky[1].clone(), ("transB", int(1))];
    check("FusedGemm", &with_b, &transposed, &[&[0.38, 0.52, 0.38, -0.033]]);
}

#[test]
fn activations() {
    let inputs = [counted(&[2, 3], 0), counted(&[3], 1)];
    check("BiasGelu", &[], &inputs, &[&[-0.149233, -0.154269, 0.053983, -0.084148, 0.262169, 0.841345]]);
    check("FastGelu", &[], &inputs, &[&[-0.149419, -0.154286, 0.053983, -0.084149, 0.262161, 0.841192]]);
    check("QuickGelu", &[], &inputs[..1], &[&[-0.163184, -0.149612, -0.083142, 0.054245, 0.265567, 0.536894]]);
}

#[test]
fn normalisations() {
    let epsilon = |value| [("epsilon", Attribute::Float(value))];
    let [gamma, beta, bias] = [2, 3, 4].map(|seed| counted(&[4], seed));
    let x = counted(&[1, 2, 4], 0);
    let sum: &[f64] = &[-1.6, -0.7, 0.2, 1.1, -0.9, 0.0, -0.8, 0.1];
    let y: &[f64] = &[0.431673, -0.923606, -0.042231, -0.904981, 0.479142, -0.258285, -1.106745, -0.762573];
    let inputs = [x.clone(), counted(&[2, 4], 1), gamma.clone(), beta.clone(), bias.clone()];
    check("SkipLayerNormalization", &epsilon(1e-5), &inputs, &[y, &[], &[], sum]);
    let y: &[f64] = &[-0.307210, -0.336011, 0.153605, -0.633620, -0.293939, 0.0, -1.045116, -0.097980];
    let inputs = [x, counted(&[1, 2, 4], 1), gamma, bias.clone()];
    check("SkipSimplifiedLayerNormalization", &epsilon(1e-2), &inputs, &[y, &[], &[], sum]);
    let inputs = [
        integers(&[1, 2], &[1, 0]),
        integers(&[1, 2], &[0, 1]),
        counted(&[3, 4], 0),
        counted(&[5, 4], 1),
        counted(&[2, 4], 2),
        beta,
        bias,
        integers(&[1, 2], &[1, 0]),
    ];
    let y: &[f64] = &[-0.592536, -1.217892, 0.082374, 0.536600, -1.439144, 0.113048, -0.078885, 0.265837];
    check("EmbedLayerNormalization", &epsilon(1e-5), &inputs, &[y, &[1.0]]);
}

#[test]
fn attention() {
    let heads = ("num_heads", int(2));
    let weights = [counted(&[4, 12], 1), counted(&[12], 2)];
    let inputs = |x: Option<Tensor>| [x, weights[0].clone(), weights[1].clone()];
    // A row whose first query sees only a masked key.
    let y: &[f64] = &[
        -1.65, -0.58, 0.66, 0.54, -0.5, -0.2, -0.58, -0.28, -0.721807, -0.871260, -0.541755, -0.107898, -1.43, -0.8,
        0.34, 0.46, -1.365124, 0.068339, 0.140843, 0.214884, -1.369460, 0.010298, 0.204811, 0.293614,
    ];
    let masked = [&inputs(counted(&[2, 3, 4], 0))[..], &[integers(&[2, 3], &[0, 1, 1, 1, 1, 0])]].concat();
    check("Attention", &[heads.clone(), ("unidirectional", int(1))], &masked, &[y]);
    let past = [&inputs(counted(&[1, 2, 4], 0))[..], &[None, counted(&[2, 1, 2, 1, 2], 3)]].concat();
    let y: &[f64] = &[-0.799417, -0.146740, 0.337443, -0.180420, -0.674256, -0.117234, 0.309034, 0.068281];
    let present: &[f64] = &[0.7, -0.7, 0.7, 0.58, -0.68, -0.38, -0.4, -0.1, 0.46, 0.34, -0.08, 0.22, 0.2, 0.5];
    check("Attention", std::slice::from_ref(&heads), &past, &[y, present]);
    let inputs = [
        counted(&[1, 2, 4], 0),
        counted(&[1, 3, 4], 1),
        counted(&[1, 3, 4], 2),
        counted(&[12], 3),
        integers(&[1], &[2]),
    ];
    let y: &[f64] = &[-0.406462, 0.193538, 0.823583, 0.663402, -0.301990, 0.298010, 0.781117, 0.765320];
    check("MultiHeadAttention", std::slice::from_ref(&heads), &inputs, &[y]);
}

#[test]
fn grouped_queries_over_a_cache() {
    let inputs = [
        counted(&[2, 1, 16], 0),
        counted(&[2, 1, 8], 1),
        counted(&[2, 1, 8], 2),
        counted(&[2, 1, 2, 8], 3),
        counted(&[2, 1, 2, 8], 4),
        integers(&[2], &[1, 2]),
        integers(&[1], &[3]),
    ];
    let y: &[f64] = &[
        -0.168544, 0.131456, 0.431456, -0.073508, 0.226492, -0.368544, -0.068544, 0.231456, -0.017163, 0.282837,
        0.582837, -0.289767, 0.010233, -0.217163, 0.082837, 0.382837, -0.488208, -0.188208, 0.111792, 0.411792,
        -0.045418, 0.254582, -0.388208, -0.088208,
    ];
    let keys: &[f64] =
        &[0.7, -0.7, -0.4, -0.1, 0.2, 0.5, 0.8, -0.6, -0.3, 0.0, 0.3, 0.6, -0.8, -0.5, -0.2, 0.1, 0.0, 0.0, 0.0, 0.0];
    let told = [("num_heads", int(2)), ("kv_num_heads", int(1)), ("local_window_size", int(2))];
    check("GroupQueryAttention", &told, &inputs, &[y, keys]);
}

#[test]
fn rotation_from_one_position() {
    let angles = counted(&[4, 2], 1).expect("eight").to_f64s().expect("real");
    let cache = |function: fn(f64) -> f64| {
        let values = angles.iter().map(|a| function(*a) as f32).collect();
        Some(Tensor::from_vec([4, 2], values).expect("eight"))
    };
    let position = Some(Tensor::from_vec([1], vec![1i64]).expect("one"));
    let inputs = [counted(&[1, 2, 4], 0), position, cache(f64::cos), cache(f64::sin)];
    let y: &[f64] = &[-0.705165, -0.469132, -0.427483, -0.199788, -0.223467, 0.422538, -0.774637, -0.686631];
    check("RotaryEmbedding", &[], &inputs, &[y]);
}

#[test]
fn states_of_8_bits() {
    let scalar = |value: f32| Some(Tensor::from_vec([1], vec![value]).expect("one"));
    let zero = |value: i8| Some(Tensor::from_vec([1], vec![value]).expect("one"));
    let inputs = [
        counted(&[3, 2, 2], 0),
        bytes(&[1, 2, 8], 0),
        bytes(&[1, 2, 8], 1),
        counted(&[1, 16], 2),
        integers(&[2], &[3, 1]),
        counted(&[1, 2, 2], 3),
        counted(&[1, 2, 2], 4),
        None,
        scalar(0.01),
        zero(3),
        scalar(0.02),
        zero(-2),
    ];
    let y: &[f64] =
        &[0.027988, -0.021828, 0.011381, 0.073210, -0.205004, -0.143406, 0.0, 0.0, -0.184734, -0.188774, 0.0, 0.0];
    let told = [("hidden_size", int(2)), ("direction", Attribute::String("reverse".into()))];
    let cells: &[f64] = &[0.043287, -0.110340, 0.017849, 0.285688];
    check("DynamicQuantizeLSTM", &told, &inputs, &[y, &y[..4], cells]);
}
