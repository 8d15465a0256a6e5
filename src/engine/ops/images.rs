//! Images in planes for kernels that take them dense, and images joined along their channels.

use super::box_steps::Axis;
use super::boxes::Copy;
use super::product::Source;
use super::words::word;
use crate::engine::ir::{BufferId, Operand, Planes, Recorder, Room, Work, linear_groups};
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
    let mut parts = Vec::new();
    let mut channel = 0;
    for i in 0..recorder.input_count() {
        let Some(part) = recorder.optional_input(i).cloned() else { continue };
        let first = channel;
        channel += part.shape[1];
        parts.push((part, first));
    }
    let is_there = |(part, channel): &(Operand, usize), room: &Room| {
        let own = room.planes.from_channel(*channel, &part.shape).filter(|_| part.buffer == room.buffer);
        let lies = part.planes.or_else(|| Planes::dense(&part.shape));
        own.zip(lies).is_some_and(|(own, lies)| own.is_same(&lies, &part.shape))
    };
    // No dispatch may read from and write to one buffer.
    let fits = |room: &Room| {
        let apart = |part: &(Operand, usize)| part.0.buffer != room.buffer || is_there(part, room);
        room.planes.border == 0 && parts.iter().all(apart)
    };
    let room = recorder.whole_room().filter(fits);
    if room.is_some() {
        recorder.take_room();
    }
    let target = recorder.output(0).clone();
    for part in &parts {
        if part.0.shape.elements() > 0 && !room.is_some_and(|room| is_there(part, &room)) {
            copy(&part.0, &target, part.1).record(recorder, &part.0, 0)?;
        }
    }
    Ok(())
}
