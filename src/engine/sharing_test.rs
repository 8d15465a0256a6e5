//! A test of weights that lanes have in common: what one lane has put in memory, the kernels of every lane must read.

use std::sync::Arc;

use super::compile::compile;
use super::device::{Lane, WeightUse};
use super::ir::{Attributes, Choices, Given, Profile};
use super::ops::{OpSpec, build};
use super::self_test::one_node;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Elements of the weight: enough for it to be one in common, and for many pages.
const COUNT: usize = 1 << 16;

/// Has every lane add a pattern in common to zeros, all holding it at once, and holds what comes back against it bit by bit.
///
/// # Errors
/// `INTERNAL` naming the lane and the element, those of the runs, or that there is more than one copy.
pub(super) fn test_sharing(lanes: &[Arc<Lane>], profile: &Profile) -> Result<()> {
    // Numbers that are different and exact; none is zero, which memory holds by itself.
    let pattern = Tensor::from_vec([COUNT], (0..COUNT).map(|i| (i + 1) as f32).collect())?;
    let attributes = Attributes::new();
    let spec = OpSpec { domain: "", name: "Add", opset: 14, attributes: &attributes, inputs: 2, outputs: 1 };
    let graph = one_node(&[COUNT], "Add", build(&spec)?, pattern.clone());
    let program = Arc::new(compile(&graph, &[Given::Shape([COUNT].into())], profile, &Choices::new())?);
    let prepared = lanes.iter().map(|lane| lane.prepare(&program)).collect::<Result<Vec<_>>>()?;
    for (lane, executable) in lanes.iter().zip(&prepared) {
        let zeros = Tensor::from_vec([COUNT], vec![0.0f32; COUNT])?;
        let found = lane.run(executable, vec![zeros])?.tensors;
        let (found, expected) = (found[0].to_f32s()?, pattern.to_f32s()?);
        if let Some(at) = (0..COUNT).find(|at| found[*at].to_bits() != expected[*at].to_bits()) {
            return Err(Error::internal(format!(
                "lane {} reads {} where {} was written",
                lane.number(),
                found[at],
                expected[at]
            )));
        }
    }
    let weights = WeightUse::on(lanes);
    if lanes.len() > 1 && weights.taken >= 2 * weights.distinct {
        return Err(Error::internal(format!("{} bytes of weights take {}", weights.distinct, weights.taken)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::device::{Adapter, LaneOptions, Mask, ShareWeights, Sharing};
    use super::*;

    fn lanes(adapter: &Adapter, sharing: Option<Arc<Sharing>>) -> Vec<Arc<Lane>> {
        let options = LaneOptions { sharing, ..LaneOptions::default() };
        (0..3).map(|index| Arc::new(Lane::open(adapter, index, &options).expect("a device"))).collect()
    }

    #[test]
    fn adapters_that_can_share_do_and_others_are_found_out() {
        for adapter in Adapter::all() {
            let profile = adapter.profile(&Mask::default());
            match Sharing::begin(&adapter, ShareWeights::On, 3) {
                Some(sharing) => {
                    test_sharing(&lanes(&adapter, Some(sharing)), &profile).expect("one copy, read by every lane");
                }
                None => eprintln!("skipped: {adapter:?} has no way to share"),
            }
            let error = test_sharing(&lanes(&adapter, None), &profile).expect_err("three copies");
            assert!(error.message().starts_with("262144 bytes of weights take 786432"), "{error}");
        }
    }
}
