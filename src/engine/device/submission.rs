//! The submission thread's work: inputs to the device, one pass, one submit.

use std::sync::mpsc;
use std::time::Instant;

use super::completion::{Flight, Landing};
use super::executable::{PreparedDispatch, PreparedSegment};
use super::lane::{Job, Order, Shared};
use super::profile::profile;
use super::transfer::to_device;
use crate::engine::ir::{Port, Storage};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Submits one order and hands it over to the completion thread.
pub(super) fn submit(shared: &Shared, order: Order, flights: &mpsc::SyncSender<Flight>) {
    let flight = match order {
        Order::Profile { executable, segment, done } => {
            let timed = executable.segment(segment).and_then(|segment| profile(&shared.gpu, segment));
            // The one who asked may have stopped waiting.
            drop(done.send(timed));
            None
        }
        Order::Run(job, handed_over) => submit_run(shared, job, handed_over),
        Order::Touch { executable, segment, dispatch, done } => {
            let lost = shared.gpu.is_lost().then(|| shared.gpu.loss());
            let touched =
                lost.map_or_else(|| executable.segment(segment), Err).map(|s| touch(shared, &s.dispatches[dispatch]));
            match touched {
                Ok(index) => Some(Flight { index, submitted: Instant::now(), landing: Landing::Touch(done) }),
                Err(error) => {
                    drop(done.send(Err(error)));
                    None
                }
            }
        }
    };
    // The completion thread ends only after this one: the channel is open.
    if let Some(flight) = flight {
        shared.took_off();
        drop(flights.send(flight));
    }
}

fn touch(shared: &Shared, dispatch: &PreparedDispatch) -> wgpu::SubmissionIndex {
    let mut encoder = shared.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    pass.set_pipeline(&dispatch.pipeline.raw);
    pass.set_bind_group(0, &dispatch.bind_group, &[]);
    pass.dispatch_workgroups(1, 1, 1);
    drop(pass);
    shared.gpu.queue.submit([encoder.finish()])
}

fn submit_run(shared: &Shared, job: Job, handed_over: Instant) -> Option<Flight> {
    let refusal = if shared.gpu.is_lost() { Some(shared.gpu.loss()) } else { (job.refuse)() };
    if let Some(error) = refusal {
        (job.done)(Err(error));
        return None;
    }
    let start = Instant::now();
    match encode(shared, &job) {
        Ok(Encoded { index, submitted, staging, mapped }) => {
            let landing = Landing::Run {
                job,
                staging,
                mapped,
                wait: start.duration_since(handed_over),
                upload: submitted.duration_since(start),
            };
            Some(Flight { index, submitted, landing })
        }
        Err(error) => {
            (job.done)(Err(error));
            None
        }
    }
}

/// What the read-back's mapping told.
pub(super) type Mapped = mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>;

/// A submission under way.
struct Encoded {
    index: wgpu::SubmissionIndex,
    submitted: Instant,
    staging: Option<wgpu::Buffer>,
    mapped: Mapped,
}

fn encode(shared: &Shared, job: &Job) -> Result<Encoded> {
    let segment = job.executable.segment(job.segment)?;
    let ports = &job.executable.program().segments[job.segment].uploads;
    if ports.len() != job.inputs.len() {
        return Err(Error::internal(format!("{} inputs for {} ports", job.inputs.len(), ports.len())));
    }
    let mut converted = Vec::new();
    for ((port, buffer), tensor) in ports.iter().zip(&segment.uploads).zip(&job.inputs) {
        upload(shared, port, buffer, tensor, &mut converted)?;
    }
    let staging = segment.take_staging(&shared.gpu)?;
    let mut encoder = shared.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    record(segment, &mut encoder);
    let (sender, mapped) = mpsc::sync_channel(1);
    if let Some(staging) = &staging {
        for (buffer, at, bytes) in &segment.downloads {
            encoder.copy_buffer_to_buffer(buffer, 0, staging, *at, Some(*bytes));
        }
        // The receiver is gone only when the flight was given up.
        encoder.map_buffer_on_submit(staging, wgpu::MapMode::Read, .., move |result| drop(sender.send(result)));
    }
    let commands = encoder.finish();
    // Software adapters work inside the call.
    let submitted = Instant::now();
    let index = shared.gpu.queue.submit([commands]);
    Ok(Encoded { index, submitted, staging, mapped })
}

fn record(segment: &PreparedSegment, encoder: &mut wgpu::CommandEncoder) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    let mut current = None;
    for dispatch in &segment.dispatches {
        if current != Some(&dispatch.pipeline.raw) {
            pass.set_pipeline(&dispatch.pipeline.raw);
            current = Some(&dispatch.pipeline.raw);
        }
        pass.set_bind_group(0, &dispatch.bind_group, &[]);
        let [x, y, z] = dispatch.groups;
        pass.dispatch_workgroups(x, y, z);
    }
}

/// Copies `tensor` to `buffer`, through `converted` where its elements lie differently on the device.
fn upload(shared: &Shared, port: &Port, buffer: &wgpu::Buffer, tensor: &Tensor, converted: &mut Vec<u8>) -> Result<()> {
    if tensor.shape() != &port.shape || tensor.dtype() != port.dtype {
        return Err(Error::internal(format!(
            "a {} tensor of shape {} came for a port of {} {}",
            tensor.dtype(),
            tensor.shape(),
            port.dtype,
            port.shape
        )));
    }
    let same = matches!(
        (port.dtype, port.storage),
        (DType::F32, Storage::F32) | (DType::I32, Storage::I32) | (DType::U32, Storage::U32)
    );
    let bytes: &[u8] = if same {
        tensor.bytes()
    } else {
        to_device(tensor, port.storage, converted)?;
        converted
    };
    if bytes.is_empty() {
        return Ok(());
    }
    shared.gpu.queue.write_buffer(buffer, 0, bytes);
    Ok(())
}
