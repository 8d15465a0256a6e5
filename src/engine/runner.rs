//! One run of a plan: device segments and the host steps between them.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use tokio::sync::oneshot;

use super::device::{Caller, Executable, Job, Lane, SegmentOutput};
use super::ir::{Given, HostStep, OutputPlace, Program, Rest, Segment};
use super::plan::Plan;
use super::session::{Demand, RunOutput, RunStats};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Runs `plan` on the lane, of those that hold it, whose work is done first.
pub(super) async fn run(
    lanes: &[Arc<Lane>],
    plan: &Arc<Plan>,
    inputs: Vec<Tensor>,
    demand: Demand,
) -> Result<RunOutput> {
    let (index, executable) = pick(lanes, plan)?;
    let (lane, plan) = (Arc::clone(&lanes[index]), Arc::clone(plan));
    // Counts until the run is over, whoever picks a lane meanwhile.
    let _promise = Lane::promise(&lane, demand.expected);
    let (sender, receiver) = oneshot::channel();
    let run = Run { lane, index, executable, plan, deadline: demand.deadline, sender: Reply::new(sender) };
    if run.plan.program.is_plain() {
        run.submit_whole(inputs);
    } else {
        // Host steps block: such runs have a thread of their own, the lane never waits for them.
        std::thread::Builder::new().name("host-steps".into()).spawn(move || run.alternate(inputs))?;
    }
    receiver.await.map_err(|_| Error::unavailable("the lane stopped before the run was done"))?
}

fn pick(lanes: &[Arc<Lane>], plan: &Plan) -> Result<(usize, Arc<Executable>)> {
    let ready = plan.executables.iter().enumerate().filter_map(|(index, cell)| Some((index, cell.get()?)));
    let usable = ready.filter(|(index, _)| !lanes[*index].is_lost());
    // Where nothing was measured yet, the number of jobs decides.
    let least = usable.min_by_key(|(index, _)| (lanes[*index].promised(), lanes[*index].backlog()));
    let (index, executable) = least.ok_or_else(|| Error::unavailable("every lane has lost its device"))?;
    Ok((index, Arc::clone(executable)))
}

/// The caller's end, closed when it gives up.
#[derive(Clone)]
struct Reply(Arc<Mutex<Option<oneshot::Sender<Result<RunOutput>>>>>);

impl Reply {
    fn new(sender: oneshot::Sender<Result<RunOutput>>) -> Self {
        Self(Arc::new(Mutex::new(Some(sender))))
    }

    fn abandoned(&self) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn send(&self, result: Result<RunOutput>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // A caller that left needs no answer.
            let _ = sender.send(result);
        }
    }
}

struct Run {
    lane: Arc<Lane>,
    index: usize,
    executable: Arc<Executable>,
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

impl<F: FnOnce(&Reply, Result<SegmentOutput>) + Send> Caller for Part<F> {
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
        (self.done)(&self.reply, result);
    }
}

/// Uploads count: a later segment may be the one that reads them.
fn idle(segment: &Segment) -> bool {
    segment.uploads.is_empty() && segment.dispatches.is_empty() && segment.downloads.is_empty()
}

impl Run {
    /// One segment: the lane's completion answers the caller, no thread waits.
    fn submit_whole(self, inputs: Vec<Tensor>) {
        let (plan, reply, lane) = (Arc::clone(&self.plan), self.sender.clone(), self.index);
        let mut slots = Slots::new(&plan.program, inputs);
        let segment = &plan.program.segments[0];
        if idle(segment) {
            reply.send(slots.outputs(&plan.program, &[]).map(|outputs| RunOutput { outputs, ..RunOutput::default() }));
            return;
        }
        let uploads = match slots.uploads(segment) {
            Ok(uploads) => uploads,
            Err(error) => return reply.send(Err(error)),
        };
        let job = self.job(0, uploads, move |reply, result| {
            let program = &plan.program;
            reply.send(result.and_then(|output| {
                let stats = RunStats { lane, times: output.times };
                slots.store(&program.segments[0], output.tensors);
                Ok(RunOutput { outputs: slots.outputs(program, &[])?, stats, host_steps: Vec::new() })
            }));
        });
        if let Err(error) = self.lane.submit(job) {
            reply.send(Err(error));
        }
    }

    fn job(
        &self,
        segment: usize,
        inputs: Vec<Tensor>,
        done: impl FnOnce(&Reply, Result<SegmentOutput>) + Send + 'static,
    ) -> Job {
        let (reply, deadline) = (self.sender.clone(), self.deadline);
        Job {
            executable: Arc::clone(&self.executable),
            segment,
            tensors: inputs,
            caller: Box::new(Part { reply, deadline, done }),
        }
    }

    /// Segments, host steps and what follows them in turn, on this thread.
    fn alternate(self, inputs: Vec<Tensor>) {
        let mut output =
            RunOutput { stats: RunStats { lane: self.index, ..RunStats::default() }, ..Default::default() };
        let result = self.stages(inputs, &mut output);
        self.sender.send(result.map(|outputs| RunOutput { outputs, ..output }));
    }

    fn stages(&self, inputs: Vec<Tensor>, output: &mut RunOutput) -> Result<Vec<Tensor>> {
        let program = &self.plan.program;
        let slots = {
            let _lease = self.plan.exclusive.lock().unwrap_or_else(PoisonError::into_inner);
            self.segments(program, inputs, output)?
        };
        let (Some(rest), Some(plans)) = (&program.rest, &self.plan.rest) else { return slots.outputs(program, &[]) };
        let (tensors, key) = slots.handed_over(rest)?;
        let (plan, executable) = plans.follow(&key, self.index)?;
        let next = Run {
            lane: Arc::clone(&self.lane),
            index: self.index,
            executable,
            plan,
            deadline: self.deadline,
            sender: self.sender.clone(),
        };
        slots.outputs(program, &next.stages(tensors, output)?)
    }

    fn segments(&self, program: &Program, inputs: Vec<Tensor>, output: &mut RunOutput) -> Result<Slots> {
        let mut slots = Slots::new(program, inputs);
        for (position, segment) in program.segments.iter().enumerate() {
            if !idle(segment) {
                let (sender, receiver) = mpsc::sync_channel(1);
                let job = self.job(position, slots.uploads(segment)?, move |_, result| {
                    // The receiver waits below until this is called.
                    let _ = sender.send(result);
                });
                self.lane.submit(job)?;
                let done = receiver.recv().map_err(|_| Error::unavailable("the lane stopped"))??;
                output.stats.times += done.times;
                slots.store(segment, done.tensors);
            }
            for step in &segment.host_steps {
                if self.sender.abandoned() {
                    return Err(Error::cancelled("the caller gave up"));
                }
                slots.step(step)?;
                output.host_steps.push(step.describe());
            }
        }
        Ok(slots)
    }
}
