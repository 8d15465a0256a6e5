//! What a lane is given to do, and what it gives back.

use std::ops::AddAssign;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::executable::Executable;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// One segment to run.
pub struct Job {
    /// What runs.
    pub executable: Arc<Executable>,
    /// Which of its segments.
    pub segment: usize,
    /// One tensor an upload port, in order. The outputs come in the same vector.
    pub tensors: Vec<Tensor>,
    /// Who wants it.
    pub caller: Box<dyn Caller>,
}

/// The one who hands over a job. Called on threads of the lane: it must not block.
pub trait Caller: Send {
    /// Asked right before the work is submitted; an error ends the job there.
    fn refuse(&self) -> Option<Error>;

    /// Told the outcome. Either this is called or [`Caller::returned`], once.
    fn done(self: Box<Self>, result: Result<SegmentOutput>);

    /// Told that the lane lost its device before the work was begun: another may do it.
    fn returned(self: Box<Self>, loss: Error);
}

/// What a segment gave.
#[derive(Clone, Debug)]
pub struct SegmentOutput {
    /// One tensor a download port, in order.
    pub tensors: Vec<Tensor>,
    /// Where the time went.
    pub times: Times,
}

/// Where the time of a run went, by the clock on the wall.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// From handing over to the start of the work below.
    pub wait: Duration,
    /// Converting and copying inputs.
    pub upload: Duration,
    /// Recording the commands: while the run before was on the device, unless the slot was new.
    pub encode: Duration,
    /// The driver taking the commands.
    pub submit: Duration,
    /// From submission, or the end of the submission before it, to completion.
    pub device: Duration,
    /// Copying and converting outputs.
    pub read_back: Duration,
}

impl AddAssign for Times {
    fn add_assign(&mut self, other: Self) {
        self.wait += other.wait;
        self.upload += other.upload;
        self.encode += other.encode;
        self.submit += other.submit;
        self.device += other.device;
        self.read_back += other.read_back;
    }
}

/// A caller that waits.
pub(super) struct Waiting(pub(super) mpsc::SyncSender<Result<SegmentOutput>>);

impl Caller for Waiting {
    fn refuse(&self) -> Option<Error> {
        None
    }

    fn done(self: Box<Self>, result: Result<SegmentOutput>) {
        // The receiver waits until this is called.
        drop(self.0.send(result));
    }

    fn returned(self: Box<Self>, loss: Error) {
        drop(self.0.send(Err(loss)));
    }
}
