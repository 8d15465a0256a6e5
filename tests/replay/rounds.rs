//! Runs of one executable, one after the other, by a caller that uses everything again.

use std::sync::{Arc, mpsc};

use coracle::engine::device::{Caller, Executable, Job, Lane, SegmentOutput, Times};
use coracle::error::{Error, Result};
use coracle::tensor::Tensor;

type Answer = (Box<Waiting>, Result<SegmentOutput>);

struct Waiting(mpsc::SyncSender<Answer>);

impl Caller for Waiting {
    fn refuse(&self) -> Option<Error> {
        None
    }

    fn done(self: Box<Self>, result: Result<SegmentOutput>) {
        let sender = self.0.clone();
        // The receiver waits until this is called.
        drop(sender.send((self, result)));
    }

    fn returned(self: Box<Self>, loss: Error) {
        self.done(Err(loss));
    }
}

/// See the module.
pub(crate) struct Rounds {
    lane: Lane,
    executable: Arc<Executable>,
    inputs: Vec<Tensor>,
    answers: mpsc::Receiver<Answer>,
    /// What the next job is made of.
    caller: Option<Box<Waiting>>,
    tensors: Vec<Tensor>,
}

impl Rounds {
    pub(crate) fn new(lane: Lane, executable: Arc<Executable>, inputs: Vec<Tensor>) -> Self {
        let (sender, answers) = mpsc::sync_channel(1);
        let caller = Some(Box::new(Waiting(sender)));
        Self { lane, executable, tensors: Vec::with_capacity(8), inputs, answers, caller }
    }

    /// One run, its outputs dropped.
    pub(crate) fn run(&mut self) -> Times {
        let mut tensors = std::mem::take(&mut self.tensors);
        tensors.clear();
        tensors.extend(self.inputs.iter().cloned());
        let caller = self.caller.take().expect("it came back from the last run");
        let job = Job { executable: Arc::clone(&self.executable), segment: 0, tensors, caller };
        self.lane.submit(job).expect("the lane works");
        let (caller, result) = self.answers.recv().expect("every job is answered");
        let output = result.expect("it runs");
        (self.caller, self.tensors) = (Some(caller), output.tensors);
        self.tensors.clear();
        output.times
    }
}
