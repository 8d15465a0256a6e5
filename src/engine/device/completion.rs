//! The completion thread's work: waits for the oldest submission, reads back, answers.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::job::{Job, SegmentOutput, Times};
use super::lane::Shared;
use super::orders::Orders;
use super::pace::Cuts;
use super::slot::Slot;
use super::vulkan::Recording;
use crate::error::{Error, Result};

/// A submission under way.
pub(super) struct Flight {
    pub(super) index: wgpu::SubmissionIndex,
    pub(super) submitted: Instant,
    pub(super) landing: Landing,
}

/// What to do when it is done.
pub(super) enum Landing {
    /// Tell that a kernel was run, by this recording if by one.
    Touch { done: mpsc::SyncSender<Result<()>>, recording: Option<Recording> },
    /// Have the next part of the run submitted.
    Part(Arc<Orders>),
    /// Read back and answer.
    Run(Run),
}

/// A run, all of which was given to the device.
pub(super) struct Run {
    pub(super) job: Job,
    pub(super) slot: Arc<Slot>,
    pub(super) times: Times,
    pub(super) cuts: Cuts,
    /// What the parts before the last took.
    pub(super) parts: Vec<Duration>,
}

/// Waits for `flight`, before which the device was free from `free` on, and answers it. Returns when it landed.
pub(super) fn complete(shared: &Shared, flight: Flight, free: Instant) -> Instant {
    let fate = wait(shared, flight.index);
    let done = Instant::now();
    shared.landed();
    // The queue runs submissions in order: until the one before had landed, this one waited.
    let took = done.duration_since(flight.submitted.max(free));
    match flight.landing {
        Landing::Touch { done, recording } => {
            if let (Ok(()), Some(recording)) = (&fate, &recording) {
                recording.landed();
            }
            // The one who asked may have stopped waiting.
            drop(done.send(fate));
        }
        Landing::Part(orders) => orders.landed(fate.map(|()| took)),
        Landing::Run(Run { mut job, slot, mut times, cuts, mut parts }) => {
            times.device = took + parts.iter().sum::<Duration>();
            let result = fate.and_then(|()| {
                let pace = &job.executable.segment(job.segment)?.pace;
                if parts.is_empty() {
                    pace.learn(&cuts, &[took]);
                } else {
                    parts.push(took);
                    pace.learn(&cuts, &parts);
                }
                read_back(shared, &mut job, slot)
            });
            times.read_back = done.elapsed();
            let tensors = std::mem::take(&mut job.tensors);
            shared.answer(job, result.map(|()| SegmentOutput { tensors, times }));
        }
    }
    done
}

/// Waits until a submission is done. One that takes too long never ends: the device is given up.
fn wait(shared: &Shared, index: wgpu::SubmissionIndex) -> Result<()> {
    let gpu = &shared.gpu;
    if gpu.is_lost() {
        return Err(gpu.loss());
    }
    let hung = || gpu.hang(&format!("the device did not finish its work within {:?}", shared.hang_time));
    if shared.faults.hangs() {
        std::thread::sleep(shared.hang_time);
        hung();
        return Err(gpu.loss());
    }
    let wait = wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(shared.hang_time) };
    match gpu.device.poll(wait) {
        _ if gpu.is_lost() => Err(gpu.loss()),
        Ok(_) => Ok(()),
        Err(wgpu::PollError::Timeout) => {
            hung();
            Err(gpu.loss())
        }
        Err(error) => Err(Error::unavailable(format!("waiting for the device failed: {error}"))),
    }
}

/// The outputs in place of the inputs.
fn read_back(shared: &Shared, job: &mut Job, slot: Arc<Slot>) -> Result<()> {
    let segment = job.executable.segment(job.segment)?;
    job.tensors.clear();
    slot.read(&shared.gpu, &job.executable.program().segments[job.segment].downloads, &mut job.tensors)?;
    segment.return_slot(slot);
    shared.faults.spoil(&mut job.tensors)
}
