//! DFT and STFT, windows and filter banks.

use coracle::tensor::{DType, Tensor};

use crate::case::{Case, floats, random};

pub(crate) fn cases() -> Vec<Case> {
    let scalar = Tensor::scalar::<i64>;
    let dft = |name, opset| Case::new("DFT", name).opset(opset).tolerance(1e-5);
    let stft = |name| Case::new("STFT", name).tolerance(1e-5);
    vec![
        dft("real", 20).varying(floats(&[2, 11, 3, 1], 1)).absent().constant(scalar(1)),
        dft("complex_inverse", 20).int("inverse", 1).varying(floats(&[2, 5, 12, 2], 2)),
        dft("one_sided", 17).int("onesided", 1).varying(floats(&[2, 10, 1], 3)).constant(scalar(16)),
        dft("truncated", 17).int("axis", 2).varying(floats(&[2, 3, 10, 2], 4)).constant(scalar(7)),
        dft("to_real", 20).int("inverse", 1).int("onesided", 1).varying(floats(&[2, 6, 2], 5)),
        dft("to_real_odd", 20).int("inverse", 1).int("onesided", 1).varying(floats(&[2, 6, 2], 6)).constant(scalar(9)),
        stft("window").varying(floats(&[2, 50, 1], 7)).constant(scalar(5)).constant(random(
            DType::F32,
            &[16],
            0.0,
            1.0,
            8,
        )),
        stft("complex")
            .int("onesided", 0)
            .varying(floats(&[1, 30, 2], 9))
            .constant(scalar(4))
            .absent()
            .constant(scalar(9)),
        stft("varying_window")
            .varying(floats(&[1, 30, 1], 10))
            .constant(scalar(6))
            .varying(floats(&[12], 11))
            .constant(scalar(12)),
    ]
}
