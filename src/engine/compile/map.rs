//! Elementwise work with no kernel before it.

use crate::engine::ir::{Recorder, Work, linear_groups};
use crate::engine::kernels::map::{Params, SHADER};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// One invocation an element, everything done by the chain.
pub(super) fn record_map(recorder: &mut Recorder<'_>, shape: &Shape) -> Result<()> {
    let count = shape.elements();
    let words =
        u32::try_from(count).map_err(|_| Error::resource_exhausted(format!("{count} elements in one tensor")))?;
    recorder.dispatch(&Work {
        shader: &SHADER,
        defines: &[],
        buffers: &[recorder.output(0).buffer],
        params: Params { count: words }.words(),
        groups: linear_groups(count, 64, recorder.profile.max_workgroups),
    })
}
