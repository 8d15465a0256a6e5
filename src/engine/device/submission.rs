//! The submission thread's work: inputs to the device, one pass, one submit.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::completion::{Flight, Landing, Run};
use super::executable::Executable;
use super::job::{Job, Times};
use super::lane::Shared;
use super::orders::{Next, Order, Orders};
use super::profile::profile;
use super::single::{Alone, Single};
use super::slot::{Commands, Parts, Ready, Slot};
use super::vulkan::Recording;
use crate::engine::ir::Port;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The submission thread.
pub(super) struct Submitter {
    pub(super) shared: Arc<Shared>,
    pub(super) orders: Arc<Orders>,
    pub(super) flights: mpsc::SyncSender<Flight>,
    /// Inputs whose elements lie differently on the device.
    pub(super) scratch: Vec<u8>,
    /// The run whose next part waits for the one before.
    pub(super) begun: Option<Begun>,
}

/// A run of which a part is on the device.
pub(super) struct Begun {
    run: Run,
    /// The parts to be submitted yet.
    rest: Parts,
}

impl Begun {
    /// Whether this may be done before the next part. Only what is short: it is not cut itself.
    fn lets_pass(&self, order: &Order) -> bool {
        let passes = |other: &Executable| other.passes(&self.run.job.executable);
        match order {
            Order::Run(job, _) => {
                passes(&job.executable) && job.executable.segment(job.segment).is_ok_and(|s| s.pace.cuts().len() == 1)
            }
            Order::Touch { executable, .. } => passes(executable),
            Order::Profile { .. } => false,
        }
    }
}

impl Drop for Submitter {
    /// Also when it panics.
    fn drop(&mut self) {
        self.orders.abandon();
    }
}

impl Submitter {
    /// Submits what is ordered and hands it over to the completion thread, until the lane is let go.
    pub(super) fn work(mut self) {
        let orders = Arc::clone(&self.orders);
        loop {
            let next = match &self.begun {
                None => orders.next(None),
                Some(begun) => orders.next(Some(&|order| begun.lets_pass(order))),
            };
            match next {
                Next::Begin(order) => self.submit(order),
                Next::GoOn(landed) => self.go_on(landed),
                Next::End => return,
            }
        }
    }

    fn submit(&mut self, order: Order) {
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
        let written = Instant::now();
        let Ready { parts, cuts, took } = match slot.commands(gpu, &job.executable, job.segment) {
            Ok(ready) => ready,
            Err(error) => return self.shared.answer(job, Err(error)),
        };
        let times = Times {
            wait: start.duration_since(handed_over),
            upload: written.duration_since(start),
            encode: took,
            ..Times::default()
        };
        let run = Run { job, slot, times, cuts, parts: Vec::new() };
        if self.begun.is_some() || parts.len() == 1 {
            // Between parts of another run there is nobody to wait for its own.
            self.land(run, parts);
        } else {
            self.part(Begun { run, rest: parts });
        }
    }

    /// Submits the next part.
    fn part(&mut self, mut begun: Begun) {
        let next = begun.rest.next();
        if begun.rest.len() == 0 {
            return self.land(begun.run, next);
        }
        let submitted = Instant::now();
        let index = self.shared.gpu.queue.submit(next.into_iter().flatten().flatten());
        begun.run.slot.took_off(&index);
        begun.run.times.submit += submitted.elapsed();
        self.fly(Flight { index, submitted, landing: Landing::Part(Arc::clone(&self.orders)) });
        self.begun = Some(begun);
    }

    /// Submits the last part of a run.
    fn land(&self, mut run: Run, commands: impl IntoIterator<Item = Commands>) {
        let gpu = &self.shared.gpu;
        let (executable, segment) = (Arc::clone(&run.job.executable), run.job.segment);
        let slot = Arc::clone(&run.slot);
        let submitted = Instant::now();
        let index = gpu.queue.submit(commands.into_iter().flatten().flatten());
        slot.took_off(&index);
        run.times.submit += submitted.elapsed();
        self.fly(Flight { index, submitted, landing: Landing::Run(run) });
        slot.encode_next(gpu, &executable, segment);
        // Before the executable: whoever waits for that to be gone takes its memory for given back.
        drop(slot);
    }

    /// The part that was submitted last took so long, or failed. What nobody waits for any more ends here.
    fn go_on(&mut self, landed: Result<Duration>) {
        let Some(mut begun) = self.begun.take() else { return };
        match landed.and_then(|took| begun.run.job.caller.refuse().map_or(Ok(took), Err)) {
            Ok(took) => {
                begun.run.parts.push(took);
                self.part(begun);
            }
            // The slot's buffers are the device's until a run has ended: it is of no use.
            Err(error) => {
                let Run { job, slot, .. } = begun.run;
                // Commands go before what they execute.
                drop(begun.rest);
                drop(slot);
                self.shared.answer(job, Err(error));
            }
        }
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
