//! How long each dispatch of a segment takes, by the device's own clock where that can be believed.

use std::time::{Duration, Instant};

use super::executable::{PreparedDispatch, PreparedSegment};
use super::gpu::Gpu;
use crate::error::{Error, Result};

/// Dispatches timed in one submission, two timestamps each: a set of queries holds 4096.
const DISPATCHES_MAX: usize = 2048;
/// Empty submissions whose median time is taken off each one timed by the host's clock.
const EMPTY_RUNS: usize = 9;
/// Timestamps are believed when what lies between them is no more than this share of the time that the host waited.
const STAMPED_MAX: f64 = 1.05;
/// And no less than this one: drivers that never write them give nothing at all.
const STAMPED_MIN: f64 = 0.02;

/// Runs the dispatches of `segment` once, in order, on whatever its buffers hold, and says how long each took.
pub(super) fn profile(gpu: &Gpu, segment: &PreparedSegment) -> Result<Vec<Duration>> {
    wait(gpu)?;
    if gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
        let start = Instant::now();
        let mut times = Vec::with_capacity(segment.dispatches.len());
        for dispatches in segment.dispatches.chunks(DISPATCHES_MAX) {
            times.extend(stamped(gpu, dispatches)?);
        }
        let share = times.iter().sum::<Duration>().as_secs_f64() / start.elapsed().as_secs_f64();
        if (STAMPED_MIN..=STAMPED_MAX).contains(&share) {
            return Ok(times);
        }
    }
    let mut empty = (0..EMPTY_RUNS).map(|_| alone(gpu, None)).collect::<Result<Vec<_>>>()?;
    empty.sort();
    let overhead = empty[EMPTY_RUNS / 2];
    segment.dispatches.iter().map(|dispatch| Ok(alone(gpu, Some(dispatch))?.saturating_sub(overhead))).collect()
}

/// The host's time of one submission that holds at most one dispatch.
fn alone(gpu: &Gpu, dispatch: Option<&PreparedDispatch>) -> Result<Duration> {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encode(&mut encoder, dispatch, None);
    let commands = encoder.finish();
    let start = Instant::now();
    gpu.queue.submit([commands]);
    wait(gpu)?;
    Ok(start.elapsed())
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
        encode(&mut encoder, Some(dispatch), Some(stamps));
    }
    encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
    encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, Some(bytes));
    encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, .., |_| {});
    gpu.queue.submit([encoder.finish()]);
    wait(gpu)?;
    let view = staging.get_mapped_range(..).map_err(|e| Error::unavailable(format!("reading timestamps: {e}")))?;
    let period = f64::from(gpu.queue.get_timestamp_period());
    let stamps: &[u64] = bytemuck::cast_slice(&view);
    let span = |pair: &[u64]| Duration::from_nanos((pair[1].saturating_sub(pair[0]) as f64 * period) as u64);
    Ok(stamps.chunks_exact(2).map(span).collect())
}

fn encode(
    encoder: &mut wgpu::CommandEncoder,
    dispatch: Option<&PreparedDispatch>,
    stamps: Option<wgpu::ComputePassTimestampWrites<'_>>,
) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: stamps });
    if let Some(dispatch) = dispatch {
        pass.set_pipeline(&dispatch.pipeline.raw);
        pass.set_bind_group(0, &dispatch.bind_group, &[]);
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
