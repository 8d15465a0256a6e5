//! The submission thread's work: inputs to the device, one pass, one submit.

use std::sync::{Arc, mpsc};
use std::time::Instant;

use super::completion::{Flight, Landing};
use super::executable::Executable;
use super::job::{Job, Times};
use super::lane::{Order, Shared};
use super::profile::profile;
use super::single::{Alone, Single};
use super::slot::Slot;
use super::vulkan::Recording;
use crate::engine::ir::Port;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The submission thread.
pub(super) struct Submitter {
    pub(super) shared: Arc<Shared>,
    pub(super) flights: mpsc::SyncSender<Flight>,
    /// Inputs whose elements lie differently on the device.
    pub(super) scratch: Vec<u8>,
}

impl Submitter {
    /// Submits one order and hands it over to the completion thread.
    pub(super) fn submit(&mut self, order: Order) {
        match order {
            Order::Run(job, handed_over) => self.run(job, handed_over),
            Order::Profile { executable, segment, done } => {
                let timed = profile(&self.shared.gpu, &executable, segment);
                // The one who asked may have stopped waiting.
                drop(done.send(timed));
            }
            Order::Touch { executable, segment, dispatch, done } => {
                match touch(&self.shared, &executable, segment, dispatch) {
                    Ok((index, recording)) => {
                        let landing = Landing::Touch { done, recording };
                        self.fly(Flight { index, submitted: Instant::now(), landing });
                    }
                    Err(error) => drop(done.send(Err(error))),
                }
            }
        }
    }

    fn fly(&self, flight: Flight) {
        self.shared.took_off();
        // The completion thread ends only after this one: the channel is open.
        drop(self.flights.send(flight));
    }

    fn run(&mut self, job: Job, handed_over: Instant) {
        let gpu = &self.shared.gpu;
        if gpu.is_lost() {
            return self.shared.give_back(job);
        }
        let start = Instant::now();
        let slot = match job.caller.refuse().map_or_else(|| upload(&self.shared, &job, &mut self.scratch), Err) {
            Ok(slot) => slot,
            // What fails because the device is gone was not begun.
            Err(_) if gpu.is_lost() => return self.shared.give_back(job),
            Err(error) => return self.shared.answer(job, Err(error)),
        };
        let executable = Arc::clone(&job.executable);
        let segment = match executable.segment(job.segment) {
            Ok(segment) => segment,
            Err(error) => return self.shared.answer(job, Err(error)),
        };
        let written = Instant::now();
        let (commands, encode) = slot.commands(gpu, segment);
        let submitted = Instant::now();
        let index = gpu.queue.submit(commands.into_iter().flatten());
        slot.took_off(&index);
        let times = Times {
            wait: start.duration_since(handed_over),
            upload: written.duration_since(start),
            encode,
            submit: submitted.elapsed(),
            ..Times::default()
        };
        self.fly(Flight { index, submitted, landing: Landing::Run { job, slot: Arc::clone(&slot), times } });
        slot.encode_next(gpu, segment);
        // Before the executable: whoever waits for that to be gone takes its memory for given back.
        drop(slot);
    }
}

/// Runs one workgroup of a dispatch.
fn touch(
    shared: &Shared,
    executable: &Executable,
    segment: usize,
    dispatch: usize,
) -> Result<(wgpu::SubmissionIndex, Option<Recording>)> {
    if shared.gpu.is_lost() {
        return Err(shared.gpu.loss());
    }
    let single = Single { segment, dispatch, groups: Some([1; 3]) };
    Ok(Alone::new(&shared.gpu, executable, &single)?.submit(&shared.gpu))
}

/// A slot that holds the job's inputs.
fn upload(shared: &Shared, job: &Job, scratch: &mut Vec<u8>) -> Result<Arc<Slot>> {
    let segment = job.executable.segment(job.segment)?;
    let ports = &job.executable.program().segments[job.segment].uploads;
    check(ports, &job.tensors)?;
    let slot = job.executable.take_slot(&shared.gpu, &shared.memory, job.segment)?;
    if let Err(error) = slot.write(ports, &job.tensors, scratch) {
        // Nothing was given to the device yet.
        segment.return_slot(slot);
        return Err(error);
    }
    Ok(slot)
}

fn check(ports: &[Port], tensors: &[Tensor]) -> Result<()> {
    if ports.len() != tensors.len() {
        return Err(Error::internal(format!("{} inputs for {} ports", tensors.len(), ports.len())));
    }
    for (port, tensor) in ports.iter().zip(tensors) {
        if tensor.shape() != &port.shape || tensor.dtype() != port.dtype {
            return Err(Error::internal(format!(
                "a {} tensor of shape {} came for a port of {} {}",
                tensor.dtype(),
                tensor.shape(),
                port.dtype,
                port.shape
            )));
        }
    }
    Ok(())
}
