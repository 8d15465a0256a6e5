//! BatchNormalization with constant parameters and with computed ones.

use coracle::tensor::DType;

use crate::case::{Case, floats, random};

pub(crate) fn cases() -> Vec<Case> {
    let variance = || random(DType::F32, &[5], 0.5, 2.0, 4);
    let new = |name| Case::new("BatchNormalization", name).float("epsilon", 1e-3).tolerance(5e-6);
    let [scale, bias, mean] = [1, 2, 3].map(|seed| floats(&[5], seed));
    let constant = new("constant").varying(floats(&[2, 5, 3, 7], 5)).constant(scale.clone()).constant(bias.clone());
    let computed = new("computed").varying(floats(&[3, 5], 6)).varying(scale).varying(bias);
    vec![constant.constant(mean.clone()).constant(variance()), computed.varying(mean).varying(variance())]
}
