//! The completion thread's work: waits for the oldest submission, reads back, answers.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::lane::{Job, SegmentOutput, Shared};
use super::submission::Mapped;
use super::transfer::from_device;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A submission under way.
pub(super) struct Flight {
    pub(super) index: wgpu::SubmissionIndex,
    pub(super) submitted: Instant,
    pub(super) landing: Landing,
}

/// What to do when it is done.
pub(super) enum Landing {
    /// Tell that a kernel was run.
    Touch(mpsc::SyncSender<Result<()>>),
    /// Read back and answer.
    Run { job: Job, staging: Option<wgpu::Buffer>, mapped: Mapped, wait: Duration, upload: Duration },
}

/// Waits for `flight`, before which the device was free from `free` on, and answers it. Returns when it landed.
pub(super) fn complete(shared: &Shared, flight: Flight, free: Instant) -> Instant {
    let wait = wgpu::PollType::Wait { submission_index: Some(flight.index), timeout: None };
    let polled = shared.gpu.device.poll(wait);
    let done = Instant::now();
    shared.landed();
    let fate = match polled {
        _ if shared.gpu.is_lost() => Err(shared.gpu.loss()),
        Ok(_) => Ok(()),
        Err(error) => Err(Error::unavailable(format!("waiting for the device failed: {error}"))),
    };
    match flight.landing {
        // The one who asked may have stopped waiting.
        Landing::Touch(answer) => drop(answer.send(fate)),
        Landing::Run { job, staging, mapped, wait, upload } => {
            // The queue runs submissions in order: until the one before had landed, this one waited.
            let device = done.duration_since(flight.submitted.max(free));
            let result = fate.and_then(|()| read_back(&job, staging, &mapped)).map(|tensors| SegmentOutput {
                tensors,
                wait,
                upload,
                device,
                read_back: done.elapsed(),
            });
            (job.done)(result);
        }
    }
    done
}

fn read_back(job: &Job, staging: Option<wgpu::Buffer>, mapped: &Mapped) -> Result<Vec<Tensor>> {
    let Some(staging) = staging else { return Ok(Vec::new()) };
    let failed = |error: &dyn std::fmt::Display| Error::unavailable(format!("reading back failed: {error}"));
    // The submission is done, so the callback has run or is running on another thread.
    mapped.recv().map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    let segment = job.executable.segment(job.segment)?;
    let ports = &job.executable.program().segments[job.segment].downloads;
    let tensors = {
        let view = staging.get_mapped_range(..).map_err(|e| failed(&e))?;
        let read = |(port, (_, at, bytes)): (&crate::engine::ir::Port, &(wgpu::Buffer, u64, u64))| {
            let (at, bytes) = (*at as usize, *bytes as usize);
            from_device(&view[at..at + bytes], port.storage, port.dtype, &port.shape)
        };
        ports.iter().zip(&segment.downloads).map(read).collect::<Result<Vec<_>>>()
    };
    staging.unmap();
    segment.return_staging(staging);
    tensors
}
