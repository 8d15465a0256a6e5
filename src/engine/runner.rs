//! One run of a plan: device segments and the host steps between them.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use tokio::sync::oneshot;

use super::ahead::Ahead;
use super::device::{Caller, Job, Lane, SegmentOutput};
use super::ir::{Given, HostStep, OutputPlace, Program, Rest, Segment};
use super::lanes::Lanes;
use super::plan::{Berth, Plan};
use super::session::{Demand, NotBegun, RunOutput, RunStats};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Lanes that a run is given to at most, each lost before it was begun.
const MAX_ATTEMPTS: usize = 8;

/// Runs `plan` on the lane, of those that hold it, whose work is done first; not where something is being warmed, if there is
/// another. Where all are lost it waits for one, or gives the run back if it can go elsewhere; what a lane had not begun when it
/// was lost goes to another.
pub(super) async fn run(lanes: &Lanes, plan: &Arc<Plan>, inputs: Vec<Tensor>, demand: Demand) -> Result<RunOutput> {
    let deadline = demand.deadline;
    for _ in 0..MAX_ATTEMPTS {
        let (index, berth) = match pick(plan) {
            Some(found) => found,
            None if demand.elsewhere => return Err(NotBegun.into()),
            None => lanes.wait_for(deadline, || pick(plan)).await?,
        };
        // Counts until the run is over, whoever picks a lane meanwhile.
        let _promise = Lane::promise(&berth.lane, demand.expected);
        let (sender, receiver) = oneshot::channel();
        let run = Run { berth, index, plan: Arc::clone(plan), deadline, sender: Reply::new(sender) };
        let inputs = inputs.clone();
        if run.plan.program.is_plain() {
            run.submit_whole(inputs);
        } else {
            // Host steps block: such runs have a thread of their own, the lane never waits for them.
            std::thread::Builder::new().name("host-steps".into()).spawn(move || run.alternate(inputs))?;
        }
        match receiver.await.map_err(|_| Error::unavailable("the lane stopped before the run was done"))? {
            Ok(output) => return Ok(output),
            Err(Halt::Failed(error)) => return Err(error),
            Err(Halt::NotBegun) => {}
        }
    }
    Err(Error::unavailable(format!("{MAX_ATTEMPTS} lanes in turn lost their devices")))
}

/// The lane that a run of `plan` goes to.
pub(super) fn pick(plan: &Plan) -> Option<(usize, Berth)> {
    plan.ready().min_by_key(|(_, berth)| Ahead::on(&berth.lane))
}

/// Why there is no output.
enum Halt {
    /// For good.
    Failed(Error),
    /// The lane was lost before it began: another may do the work, which leaves no traces.
    NotBegun,
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

type Outcome<T> = std::result::Result<T, Halt>;

/// The caller's end, closed when it gives up.
#[derive(Clone)]
struct Reply(Arc<Mutex<Option<oneshot::Sender<Outcome<RunOutput>>>>>);

impl Reply {
    fn new(sender: oneshot::Sender<Outcome<RunOutput>>) -> Self {
        Self(Arc::new(Mutex::new(Some(sender))))
    }

    fn abandoned(&self) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn send(&self, result: Outcome<RunOutput>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // A caller that left needs no answer.
            let _ = sender.send(result);
        }
    }
}

struct Run {
    berth: Berth,
    index: usize,
    plan: Arc<Plan>,
    deadline: Option<Instant>,
    sender: Reply,
}

/// Host tensors of a run.
struct Slots(Vec<Option<Tensor>>);

impl Slots {
    fn new(program: &Program, inputs: Vec<Tensor>) -> Self {
        let mut slots = vec![None; program.slots];
        for (slot, tensor) in program.inputs.iter().zip(inputs) {
            slots[slot.0] = Some(tensor);
        }
        for (slot, tensor) in &program.known {
            slots[slot.0] = Some(tensor.clone());
        }
        Self(slots)
    }

    fn get(&self, slot: super::ir::Slot) -> Result<Tensor> {
        self.0[slot.0].clone().ok_or_else(|| Error::internal(format!("host slot {} is empty", slot.0)))
    }

    /// Does what `step` does.
    fn step(&mut self, step: &HostStep) -> Result<()> {
        let inputs = step.inputs.iter().map(|s| s.map(|s| self.get(s)).transpose());
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let borrowed: Vec<_> = inputs.iter().map(Option::as_ref).collect();
        let place = |e: Error| e.at(format!("{} node {:?}", step.op.name(), step.node));
        let outputs = step.op.evaluate(&borrowed).map_err(place)?;
        for (slot, tensor) in step.outputs.iter().zip(outputs) {
            if let Some(slot) = slot {
                self.0[slot.0] = Some(tensor);
            }
        }
        Ok(())
    }

    fn uploads(&self, segment: &Segment) -> Result<Vec<Tensor>> {
        segment.uploads.iter().map(|port| self.get(port.slot)).collect()
    }

    fn store(&mut self, segment: &Segment, tensors: Vec<Tensor>) {
        for (port, tensor) in segment.downloads.iter().zip(tensors) {
            self.0[port.slot.0] = Some(tensor);
        }
    }

    /// The program's outputs; `rest` holds those of what followed it.
    fn outputs(&self, program: &Program, rest: &[Tensor]) -> Result<Vec<Tensor>> {
        let output = |place: &OutputPlace| match place {
            OutputPlace::Slot(slot) => self.get(*slot),
            OutputPlace::Rest(i) => rest.get(*i).cloned().ok_or_else(|| Error::internal("an output is missing")),
        };
        program.outputs.iter().map(output).collect()
    }

    /// What follows is told of these tensors, and what it may rely on to compile.
    fn handed_over(&self, rest: &Rest) -> Result<(Vec<Tensor>, Vec<Given>)> {
        let mut handed = (Vec::with_capacity(rest.inputs.len()), Vec::with_capacity(rest.inputs.len()));
        for (slot, by_value) in &rest.inputs {
            let tensor = self.get(*slot)?;
            let given = if *by_value { Given::Value(tensor.clone()) } else { Given::of(&tensor) };
            handed.0.push(tensor);
            handed.1.push(given);
        }
        Ok(handed)
    }
}

/// The lane's view of the caller: one segment of its run.
struct Part<F> {
    reply: Reply,
    deadline: Option<Instant>,
    done: F,
}

impl<F: FnOnce(&Reply, Outcome<SegmentOutput>) + Send> Caller for Part<F> {
    fn refuse(&self) -> Option<Error> {
        if self.reply.abandoned() {
            Some(Error::cancelled("the caller gave up"))
        } else if self.deadline.is_some_and(|d| Instant::now() >= d) {
            Some(Error::deadline_exceeded("the deadline passed before the run was submitted"))
        } else {
            None
        }
    }

    fn done(self: Box<Self>, result: Result<SegmentOutput>) {
        (self.done)(&self.reply, result.map_err(Halt::Failed));
    }

    fn returned(self: Box<Self>, _: Error) {
        (self.done)(&self.reply, Err(Halt::NotBegun));
    }
}

/// Uploads count: a later segment may be the one that reads them.
fn idle(segment: &Segment) -> bool {
    segment.uploads.is_empty() && segment.dispatches.is_empty() && segment.downloads.is_empty()
}

impl Run {
    /// One segment: the lane's completion answers the caller, no thread waits.
    fn submit_whole(self, inputs: Vec<Tensor>) {
        let (plan, reply, lane) = (Arc::clone(&self.plan), self.sender.clone(), self.berth.lane.number());
        let mut slots = Slots::new(&plan.program, inputs);
        let segment = &plan.program.segments[0];
        if idle(segment) {
            let outputs = slots.outputs(&plan.program, &[]).map_err(Halt::Failed);
            return reply.send(outputs.map(|outputs| RunOutput { outputs, ..RunOutput::default() }));
        }
        let uploads = match slots.uploads(segment) {
            Ok(uploads) => uploads,
            Err(error) => return reply.send(Err(error.into())),
        };
        let job = self.job(0, uploads, move |reply, result| {
            let program = &plan.program;
            reply.send(result.and_then(|output| {
                let stats = RunStats { lane, times: output.times };
                slots.store(&program.segments[0], output.tensors);
                Ok(RunOutput { outputs: slots.outputs(program, &[])?, stats, host_steps: Vec::new() })
            }));
        });
        if let Err(error) = self.berth.lane.submit(job) {
            reply.send(Err(error.into()));
        }
    }

    fn job(
        &self,
        segment: usize,
        inputs: Vec<Tensor>,
        done: impl FnOnce(&Reply, Outcome<SegmentOutput>) + Send + 'static,
    ) -> Job {
        let (reply, deadline) = (self.sender.clone(), self.deadline);
        Job {
            executable: Arc::clone(&self.berth.executable),
            segment,
            tensors: inputs,
            caller: Box::new(Part { reply, deadline, done }),
        }
    }

    /// Segments, host steps and what follows them in turn, on this thread.
    fn alternate(self, inputs: Vec<Tensor>) {
        let lane = self.berth.lane.number();
        let mut output = RunOutput { stats: RunStats { lane, ..RunStats::default() }, ..Default::default() };
        let result = self.stages(inputs, &mut output);
        self.sender.send(result.map(|outputs| RunOutput { outputs, ..output }));
    }

    fn stages(&self, inputs: Vec<Tensor>, output: &mut RunOutput) -> Outcome<Vec<Tensor>> {
        let program = &self.plan.program;
        let slots = {
            let _lease = self.plan.exclusive.lock().unwrap_or_else(PoisonError::into_inner);
            self.segments(program, inputs, output)?
        };
        let (Some(rest), Some(plans)) = (&program.rest, &self.plan.rest) else {
            return Ok(slots.outputs(program, &[])?);
        };
        let (tensors, key) = slots.handed_over(rest)?;
        let lane = &self.berth.lane;
        let followed = plans.follow(&key, self.index, lane);
        let (plan, berth) = followed.map_err(|e| if lane.is_lost() { Halt::NotBegun } else { e.into() })?;
        let next = Run { berth, index: self.index, plan, deadline: self.deadline, sender: self.sender.clone() };
        Ok(slots.outputs(program, &next.stages(tensors, output)?)?)
    }

    fn segments(&self, program: &Program, inputs: Vec<Tensor>, output: &mut RunOutput) -> Outcome<Slots> {
        let mut slots = Slots::new(program, inputs);
        for (position, segment) in program.segments.iter().enumerate() {
            if !idle(segment) {
                let (sender, receiver) = mpsc::sync_channel(1);
                let job = self.job(position, slots.uploads(segment)?, move |_, result| {
                    // The receiver waits below until this is called.
                    let _ = sender.send(result);
                });
                self.berth.lane.submit(job)?;
                let done = receiver.recv().map_err(|_| Error::unavailable("the lane stopped"))??;
                output.stats.times += done.times;
                slots.store(segment, done.tensors);
            }
            for step in &segment.host_steps {
                if self.sender.abandoned() {
                    return Err(Error::cancelled("the caller gave up").into());
                }
                slots.step(step)?;
                output.host_steps.push(step.describe());
            }
        }
        Ok(slots)
    }
}
