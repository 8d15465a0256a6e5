//! Elementwise work with no kernel before it.

use crate::engine::ir::{Recorder, SMALL_ELEMENTS, Work, linear_groups};
use crate::engine::kernels::{map, map4};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// One invocation an element, or four elements where many divide so; everything is done by the chain.
pub(super) fn record_map(recorder: &mut Recorder<'_>, shape: &Shape) -> Result<()> {
    let elements = shape.elements();
    let count =
        u32::try_from(elements).map_err(|_| Error::resource_exhausted(format!("{elements} elements in one tensor")))?;
    let wide = elements > SMALL_ELEMENTS && elements.is_multiple_of(4);
    let (shader, invocations) = if wide { (&map4::SHADER, elements / 4) } else { (&map::SHADER, elements) };
    recorder.dispatch(&Work {
        shader,
        defines: &[],
        buffers: &[recorder.output(0).buffer],
        params: map::Params { count }.words(),
        groups: linear_groups(invocations, 64, recorder.profile.max_workgroups),
    })
}
