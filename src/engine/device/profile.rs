//! How long each dispatch of a segment takes, by the device's own clock where that can be believed.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::executable::{Executable, PreparedDispatch, PreparedReplay};
use super::gpu::Gpu;
use super::single::{Alone, Single};
use super::vulkan::{Recorder, Recording};
use crate::error::{Error, Result};

/// Dispatches timed in one submission, two timestamps each: a set of queries holds 4096.
const DISPATCHES_MAX: usize = 2048;
/// Empty submissions whose median time is taken off each one timed by the host's clock.
const EMPTY_RUNS: usize = 9;
/// Timestamps are believed when what lies between them is no more than this share of the time that the host waited.
const STAMPED_MAX: f64 = 1.05;
/// And no less than this one: drivers that never write them give nothing at all.
const STAMPED_MIN: f64 = 0.02;

/// Runs the dispatches of segment `index` once, in order, on whatever its buffers hold, and says how long each took.
pub(super) fn profile(gpu: &Gpu, executable: &Executable, index: usize) -> Result<Vec<Duration>> {
    wait(gpu)?;
    let dispatches = &executable.segment(index)?.dispatches;
    if gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
        let start = Instant::now();
        let mut times = Vec::with_capacity(dispatches.len());
        for first in (0..dispatches.len()).step_by(DISPATCHES_MAX) {
            let range = first..dispatches.len().min(first + DISPATCHES_MAX);
            times.extend(match &gpu.recorder {
                Some(recorder) => stamped_recording(gpu, recorder, executable, (index, range))?,
                None => stamped(gpu, &dispatches[range])?,
            });
        }
        let share = times.iter().sum::<Duration>().as_secs_f64() / start.elapsed().as_secs_f64();
        if (STAMPED_MIN..=STAMPED_MAX).contains(&share) {
            return Ok(times);
        }
    }
    let mut empty = (0..EMPTY_RUNS).map(|_| nothing(gpu)).collect::<Result<Vec<_>>>()?;
    empty.sort();
    let overhead = empty[EMPTY_RUNS / 2];
    let alone = |dispatch| alone(gpu, executable, &Single { segment: index, dispatch, groups: None });
    (0..dispatches.len()).map(|dispatch| alone(dispatch).map(|time| time.saturating_sub(overhead))).collect()
}

/// The host's time of one submission that holds nothing.
fn nothing(gpu: &Gpu) -> Result<Duration> {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    drop(encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
    let commands = encoder.finish();
    let start = Instant::now();
    gpu.queue.submit([commands]);
    wait(gpu)?;
    Ok(start.elapsed())
}

/// The host's time of one submission that holds one dispatch.
fn alone(gpu: &Gpu, executable: &Executable, single: &Single) -> Result<Duration> {
    let commands = Alone::new(gpu, executable, single)?;
    let start = Instant::now();
    let (_, recording) = commands.submit(gpu);
    wait(gpu)?;
    let taken = start.elapsed();
    if let Some(recording) = recording {
        recording.landed();
    }
    Ok(taken)
}

/// The device's time of each of those dispatches of a segment, which are recorded.
fn stamped_recording(
    gpu: &Gpu,
    recorder: &Recorder,
    executable: &Executable,
    (index, dispatches): (usize, Range<usize>),
) -> Result<Vec<Duration>> {
    let own = HashMap::new();
    let mut script = executable.script(index, dispatches, &own)?;
    script.stamped = true;
    let recording = Recording::new(recorder, &script)?;
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    recording.execute(&mut encoder);
    recording.took_off(&gpu.queue.submit([encoder.finish()]));
    wait(gpu)?;
    recording.landed();
    Ok(spans(gpu, &recording.stamps()?))
}

/// The device's time of each dispatch, each in a pass of its own: that is where every adapter can write timestamps.
fn stamped(gpu: &Gpu, dispatches: &[PreparedDispatch]) -> Result<Vec<Duration>> {
    let count = 2 * dispatches.len() as u32;
    if count == 0 {
        return Ok(Vec::new());
    }
    let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
        label: Some("profile"),
        ty: wgpu::QueryType::Timestamp,
        count,
    });
    let bytes = u64::from(count) * u64::from(wgpu::QUERY_SIZE);
    let resolved = gpu.buffer("timestamps", bytes, wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC)?;
    let staging = gpu.buffer("timestamps", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)?;
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    for (index, dispatch) in (0u32..).zip(dispatches) {
        let stamps = wgpu::ComputePassTimestampWrites {
            query_set: &queries,
            beginning_of_pass_write_index: Some(2 * index),
            end_of_pass_write_index: Some(2 * index + 1),
        };
        encode(&mut encoder, dispatch, stamps);
    }
    encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
    encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, Some(bytes));
    encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, .., |_| {});
    gpu.queue.submit([encoder.finish()]);
    wait(gpu)?;
    let view = staging.get_mapped_range(..).map_err(|e| Error::unavailable(format!("reading timestamps: {e}")))?;
    Ok(spans(gpu, bytemuck::cast_slice(&view)))
}

/// What lies between the two timestamps of each pair.
fn spans(gpu: &Gpu, stamps: &[u64]) -> Vec<Duration> {
    let period = f64::from(gpu.queue.get_timestamp_period());
    let span = |pair: &[u64]| Duration::from_nanos((pair[1].saturating_sub(pair[0]) as f64 * period) as u64);
    stamps.chunks_exact(2).map(span).collect()
}

fn encode(
    encoder: &mut wgpu::CommandEncoder,
    dispatch: &PreparedDispatch,
    stamps: wgpu::ComputePassTimestampWrites<'_>,
) {
    let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(stamps) };
    let mut pass = encoder.begin_compute_pass(&descriptor);
    if let PreparedReplay::Encoded { pipeline, bind_group } = &dispatch.replay {
        pass.set_pipeline(&pipeline.raw);
        pass.set_bind_group(0, bind_group, &[]);
        let [x, y, z] = dispatch.groups;
        pass.dispatch_workgroups(x, y, z);
    }
}

/// Waits until all that was submitted is done.
fn wait(gpu: &Gpu) -> Result<()> {
    let polled = gpu.device.poll(wgpu::PollType::Wait { submission_index: None, timeout: None });
    if gpu.is_lost() {
        return Err(gpu.loss());
    }
    polled.map(drop).map_err(|e| Error::unavailable(format!("waiting for the device failed: {e}")))
}
