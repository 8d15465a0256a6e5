//! Images in planes for kernels that take them dense, and images joined along their channels.

use super::box_steps::Axis;
use super::boxes::Copy;
use super::product::Source;
use super::words::word;
use crate::engine::ir::{BufferId, Operand, Planes, Recorder, Work, linear_groups};
use crate::engine::kernels::scale;
use crate::error::Result;
use crate::tensor::{DType, Shape};

/// The first element of images, and elements between neighbours along each axis.
fn places(images: &Operand) -> (usize, Vec<usize>) {
    match images.planes {
        Some(planes) => (planes.first, vec![planes.image, planes.plane, planes.row, 1]),
        None => (0, images.shape.strides()),
    }
}

/// A copy of `source`'s images to the channels from `channel` on of `target`.
fn copy(source: &Operand, target: &Operand, channel: usize) -> Copy {
    let ((from, from_strides), (to, to_strides)) = (places(source), places(target));
    let strides = from_strides.iter().zip(&to_strides);
    let axis =
        |(extent, (from, to)): (&usize, (&usize, &usize))| Axis { extent: *extent, from: *from as i64, to: *to as i64 };
    Copy {
        from: from as i64,
        to: (to + channel * to_strides[1]) as i64,
        axes: source.shape.iter().zip(strides).map(axis).collect(),
    }
}

/// `images` with all elements side by side.
pub(super) fn dense(recorder: &mut Recorder<'_>, images: &Operand) -> Result<Operand> {
    if images.planes.is_none() {
        return Ok(images.clone());
    }
    let target = recorder.scratch(images.shape.clone(), images.dtype, images.storage);
    copy(images, &target, 0).record_into(recorder, images, &target, false)?;
    Ok(target)
}

/// An input of a product or a pool, of extents `shape`, with all elements side by side.
pub(super) fn dense_source(recorder: &mut Recorder<'_>, source: Source, shape: &Shape) -> Result<Source> {
    let Source { buffer, storage, grid, planes, .. } = source;
    let images = Operand { buffer, storage, dtype: DType::F32, shape: shape.clone(), grid, planes };
    Ok(Source::from(&dense(recorder, &images)?))
}

/// An input of a product, of extents `shape`, where it lies if its rows follow each other without gaps, else side by side.
pub(super) fn flat_source(recorder: &mut Recorder<'_>, source: Source, shape: &Shape) -> Result<Source> {
    if source.planes.is_none_or(|planes| planes.is_flat(shape)) {
        return Ok(source);
    }
    dense_source(recorder, source, shape)
}

/// Every plane of an array of so many elements, and of so many each, times a number of its own.
pub(super) fn scaled(
    recorder: &mut Recorder<'_>,
    source: Source,
    scale: BufferId,
    [elements, plane]: [usize; 2],
) -> Result<Source> {
    let target = recorder.scratch(Shape::new([elements]), DType::F32, source.storage);
    let params = scale::Params { count: word(elements)?, plane: word(plane)? };
    let work = Work {
        shader: &scale::SHADER,
        defines: &[],
        buffers: &[source.buffer, scale, target.buffer],
        params: params.words(),
        groups: linear_groups(elements, 64, recorder.profile.max_workgroups),
    };
    recorder.dispatch_plain(&work, source.storage)?;
    Ok(Source::from(&target))
}

/// Joins the inputs, images, along their channels; what lies where it is joined already is left there.
pub(super) fn record_joined(recorder: &mut Recorder<'_>) -> Result<()> {
    if recorder.room().is_some_and(|room| room.planes.border == 0) {
        recorder.take_room();
    }
    let target = recorder.output(0).clone();
    let lies = |images: &Operand| images.planes.or_else(|| Planes::dense(&images.shape));
    let mut channel = 0;
    for i in 0..recorder.input_count() {
        let Some(part) = recorder.optional_input(i).cloned() else { continue };
        let own = lies(&target).and_then(|planes| planes.from_channel(channel, &part.shape));
        let in_place = own.zip(lies(&part)).is_some_and(|(own, lies)| own.is_same(&lies, &part.shape));
        let is_there = part.buffer == target.buffer && in_place;
        if !is_there && part.shape.elements() > 0 {
            copy(&part, &target, channel).record(recorder, &part, 0)?;
        }
        channel += part.shape[1];
    }
    Ok(())
}
