//! A queue with its submission thread: jobs in, one submission each, several in flight, results out through callbacks.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::adapter::Adapter;
use super::budget::Tenancy;
use super::completion::{Flight, complete};
use super::executable::Executable;
use super::faults::Faults;
use super::gpu::{Gpu, GpuOptions};
use super::job::{Job, SegmentOutput, Waiting};
use super::lane_options::LaneOptions;
use super::memory::{Memory, Needs};
use super::orders::{Order, Orders, not_taken};
use super::promise::{Promise, Promises};
use super::shelf::WeightKey;
use super::submission::Submitter;
use crate::engine::ir::{Kernel, Program};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

/// How long those who still use a lane that is let go are waited for.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How long a GPU works until its clocks are what they are under load: an NVIDIA H200 took 0.7 s, its first runs four times as long.
const WAKE: Duration = Duration::from_secs(1);

/// What the threads share.
pub(super) struct Shared {
    pub(super) gpu: Gpu,
    pub(super) memory: Memory,
    pub(super) hang_time: Duration,
    pub(super) faults: Faults,
    backlog: AtomicUsize,
    /// Executables being warmed.
    warming: AtomicUsize,
    promises: Mutex<Promises>,
    busy: Mutex<Busy>,
    warmed: Mutex<HashSet<Kernel>>,
}

/// Time with at least one submission in flight.
#[derive(Debug)]
struct Busy {
    flying: usize,
    since: Instant,
    total: Duration,
}

impl Shared {
    pub(super) fn took_off(&self) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.flying == 0 {
            busy.since = Instant::now();
        }
        busy.flying += 1;
    }

    pub(super) fn landed(&self) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        self.promises().working_since = Some(Instant::now());
        busy.flying = busy.flying.saturating_sub(1);
        if busy.flying == 0 {
            let flown = busy.since.elapsed();
            busy.total += flown;
        }
    }

    pub(super) fn promises(&self) -> std::sync::MutexGuard<'_, Promises> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the caller of a job that was handed over.
    pub(super) fn answer(&self, job: Job, result: Result<SegmentOutput>) {
        self.backlog.fetch_sub(1, Ordering::Relaxed);
        job.caller.done(result);
    }

    /// Tells the caller of a job that it was not begun.
    pub(super) fn give_back(&self, job: Job) {
        self.backlog.fetch_sub(1, Ordering::Relaxed);
        job.caller.returned(self.gpu.loss());
    }
}

/// A queue of an adapter, with a device of its own.
pub struct Lane {
    number: usize,
    shared: Arc<Shared>,
    orders: Arc<Orders>,
    threads: [JoinHandle<()>; 2],
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("number", &self.number).field("backlog", &self.backlog()).finish_non_exhaustive()
    }
}

impl Lane {
    /// Opens the lane in place `index`, from 0 on, of `adapter`.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the driver gives no device.
    pub fn open(adapter: &Adapter, index: usize, options: &LaneOptions) -> Result<Self> {
        let how = GpuOptions {
            checked: options.checked,
            cache: options.cache.as_deref(),
            fragments: options.fragments,
            ended: options.ended.clone(),
            index,
            sharing: options.sharing.as_deref(),
            replay: options.replay,
        };
        let shared = Arc::new(Shared {
            gpu: Gpu::open(adapter, &how)?,
            memory: Memory::default(),
            hang_time: options.hang_time,
            faults: Faults::default(),
            backlog: AtomicUsize::new(0),
            warming: AtomicUsize::new(0),
            promises: Mutex::default(),
            busy: Mutex::new(Busy { flying: 0, since: Instant::now(), total: Duration::ZERO }),
            warmed: Mutex::default(),
        });
        let number = options.first + index;
        let orders = Arc::new(Orders::default());
        // One submission is waited for, one is held by the blocked sender: the channel holds the rest.
        let (flights, landing) = mpsc::sync_channel::<Flight>(options.in_flight.saturating_sub(2));
        let submitter = Submitter {
            shared: Arc::clone(&shared),
            orders: Arc::clone(&orders),
            flights,
            scratch: Vec::new(),
            begun: None,
        };
        let submitting = std::thread::Builder::new().name(format!("lane-{number}")).spawn(|| submitter.work())?;
        let completer = Arc::clone(&shared);
        let completing = std::thread::Builder::new().name(format!("lane-{number}-done")).spawn(move || {
            let mut free = Instant::now();
            for flight in landing {
                free = complete(&completer, flight, free);
            }
        })?;
        Ok(Self { number, shared, orders, threads: [submitting, completing] })
    }

    /// The lane's number.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Prepares `program` on this lane's device, with memory that is no model's.
    ///
    /// # Errors
    /// Those of [`Lane::prepare_for`].
    pub fn prepare(&self, program: &Arc<Program>) -> Result<Arc<Executable>> {
        self.prepare_for(&Tenancy::unbounded(), program)
    }

    /// Prepares `program` on this lane's device, with memory of `tenancy`'s account.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` naming a limit, `INTERNAL` naming a kernel that the driver refuses, `UNAVAILABLE` when lost.
    pub fn prepare_for(&self, tenancy: &Arc<Tenancy>, program: &Arc<Program>) -> Result<Arc<Executable>> {
        if self.is_lost() {
            return Err(self.shared.gpu.loss());
        }
        Executable::prepare(&self.shared.gpu, &self.shared.memory, tenancy, program).map(Arc::new)
    }

    /// Device memory that preparing `program` would add to what is allocated.
    pub fn needs(&self, program: &Program) -> Needs {
        Executable::needs(&self.shared.gpu, &self.shared.memory, program)
    }

    /// Hands over a job. Its caller is told the outcome whenever this succeeds.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the lane's queue is full; the caller is not told then.
    pub fn submit(&self, job: Job) -> Result<()> {
        self.shared.backlog.fetch_add(1, Ordering::Relaxed);
        if self.is_lost() {
            self.shared.give_back(job);
            return Ok(());
        }
        self.orders.push(Order::Run(job, Instant::now())).map_err(|_| {
            self.shared.backlog.fetch_sub(1, Ordering::Relaxed);
            not_taken(self.number)
        })
    }

    /// Jobs handed over and not done.
    pub fn backlog(&self) -> usize {
        self.shared.backlog.load(Ordering::Relaxed)
    }

    /// Whether batches are replayed from recordings rather than encoded.
    pub fn replays_recordings(&self) -> bool {
        self.shared.gpu.recorder.is_some()
    }

    /// Whether kernels are being compiled or executables tried on it: what can run on another lane should.
    pub fn is_warming(&self) -> bool {
        self.shared.warming.load(Ordering::Relaxed) > 0
    }

    /// Notes that a run of `expected` device time is on its way to `lane`, until what is returned is dropped.
    pub fn promise(lane: &Arc<Self>, expected: Duration) -> Promise {
        lane.shared.promises().add(expected);
        Promise { shared: Arc::clone(&lane.shared), expected }
    }

    /// Device time until the runs on their way to this lane are done, as far as is known.
    pub fn promised(&self) -> Duration {
        self.shared.promises().left()
    }

    /// Time with at least one submission in flight.
    pub fn busy(&self) -> Duration {
        let busy = self.shared.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.total + if busy.flying > 0 { busy.since.elapsed() } else { Duration::ZERO }
    }

    /// Device memory allocated for it alone, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.shared.memory.bytes()
    }

    /// The weights on it: by what each is known, its bytes, and those of the copy that it has in common with other lanes.
    pub(super) fn weights(&self) -> Vec<(WeightKey, u64, Option<u64>)> {
        self.shared.memory.weights()
    }

    /// Runs the dispatches of a segment once, in order, on whatever its buffers hold (zeros after [`Lane::warm`]), and says how
    /// long each took. Other work of the lane waits meanwhile.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the device is lost.
    pub fn profile(&self, executable: &Arc<Executable>, segment: usize) -> Result<Vec<Duration>> {
        let (done, answer) = mpsc::sync_channel(1);
        let order = Order::Profile { executable: Arc::clone(executable), segment, done };
        let stopped = || Error::unavailable(format!("lane {} stopped", self.number));
        self.orders.push(order).map_err(|_| not_taken(self.number))?;
        answer.recv().map_err(|_| stopped())?
    }

    /// Has a GPU raise its clocks by running all dispatches of `executable` over and over: idle ones lower them, and what is timed
    /// next is not to depend on what came before. A CPU is as it is.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the device is lost.
    pub fn wake(&self, executable: &Arc<Executable>) -> Result<()> {
        let segments = executable.program().segments.iter().enumerate();
        let working: Vec<usize> = segments.filter(|(_, s)| !s.dispatches.is_empty()).map(|(index, _)| index).collect();
        let (start, idle) = (Instant::now(), self.shared.gpu.software || working.is_empty());
        while !idle && start.elapsed() < WAKE {
            working.iter().try_for_each(|segment| self.profile(executable, *segment).map(drop))?;
        }
        Ok(())
    }

    /// Keeps compiled kernels for the next run of the process, where that is possible.
    ///
    /// # Errors
    /// Those of writing the file.
    pub fn keep_pipelines(&self) -> std::io::Result<()> {
        self.shared.gpu.keep_pipelines()
    }

    /// Compiled kernels held.
    pub fn pipeline_count(&self) -> usize {
        self.shared.gpu.pipeline_count()
    }

    /// Whether the device is lost: every job fails with `UNAVAILABLE` from then on.
    pub fn is_lost(&self) -> bool {
        self.shared.gpu.is_lost()
    }

    /// Whether work that was given to the device never ended.
    pub fn is_hung(&self) -> bool {
        self.shared.gpu.is_hung()
    }

    /// Behaves from now on as if the driver had lost the device: fault injection.
    pub fn simulate_loss(&self) {
        self.shared.gpu.lose("device lost: simulated");
    }

    /// Behaves from now on as if the driver had no memory left (`true`), or as it does: fault injection.
    pub fn simulate_shortage(&self, starves: bool) {
        self.shared.gpu.starve(starves);
    }

    /// What it is to pretend from now on: fault injection.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Runs a program of one segment and waits for it.
    ///
    /// # Errors
    /// Those of the run.
    pub fn run(&self, executable: &Arc<Executable>, inputs: Vec<Tensor>) -> Result<SegmentOutput> {
        self.run_segment(executable, 0, inputs)
    }

    fn run_segment(&self, executable: &Arc<Executable>, segment: usize, inputs: Vec<Tensor>) -> Result<SegmentOutput> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.submit(Job {
            executable: Arc::clone(executable),
            segment,
            tensors: inputs,
            caller: Box::new(Waiting(sender)),
        })?;
        receiver.recv().map_err(|_| Error::unavailable(format!("lane {} stopped", self.number)))?
    }

    /// Lets go of a lane at the end of a process, once nobody else holds it: drivers crash where a process ends while another
    /// thread still lets go of a device. Whoever keeps holding it is not waited for long.
    pub fn release(lane: Arc<Self>) {
        wait_for(|| lane.is_hung() || Arc::strong_count(&lane) == 1);
    }

    fn forget(&self, kernel: &Kernel) {
        self.shared.warmed.lock().unwrap_or_else(PoisonError::into_inner).remove(kernel);
    }

    /// Makes the driver compile every kernel that this lane has not run yet, each as a submission of its own so that other
    /// work goes on between them.
    ///
    /// # Errors
    /// Those of the submissions.
    pub fn touch(&self, executable: &Arc<Executable>) -> Result<()> {
        let _warming = Warming::begin(&self.shared);
        for (segment, prepared) in executable.segments().iter().enumerate() {
            for (dispatch, work) in prepared.dispatches.iter().enumerate() {
                let mut warmed = self.shared.warmed.lock().unwrap_or_else(PoisonError::into_inner);
                let new = warmed.insert(work.kernel.clone());
                drop(warmed);
                if new {
                    let (done, answer) = mpsc::sync_channel(1);
                    let executable = Arc::clone(executable);
                    let stopped = || Error::unavailable(format!("lane {} stopped", self.number));
                    let order = Order::Touch { executable, segment, dispatch, done };
                    let sent = self.orders.push(order).map_err(|_| not_taken(self.number));
                    let touched = sent.and_then(|()| answer.recv().map_err(|_| stopped())?);
                    // A kernel that never ran is not warm: the next attempt must meet it again.
                    touched.inspect_err(|_| self.forget(&work.kernel))?;
                }
            }
        }
        Ok(())
    }

    /// [`Lane::touch`], then runs the device segments once on zeros. Returns the time of that run.
    ///
    /// # Errors
    /// Those of the runs.
    pub fn warm(&self, executable: &Arc<Executable>) -> Result<Duration> {
        let _warming = Warming::begin(&self.shared);
        self.touch(executable)?;
        let start = Instant::now();
        for (index, segment) in executable.program().segments.iter().enumerate() {
            if segment.dispatches.is_empty() {
                continue;
            }
            let zeros = segment.uploads.iter().map(|port| zeros(port.dtype, &port.shape));
            self.run_segment(executable, index, zeros.collect::<Result<Vec<_>>>()?)?;
        }
        Ok(start.elapsed())
    }
}

/// Counts among what is being warmed while it lives.
struct Warming<'a>(&'a Shared);

impl<'a> Warming<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.warming.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Warming<'_> {
    fn drop(&mut self) {
        self.0.warming.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits a while until `is_done`.
fn wait_for(is_done: impl Fn() -> bool) {
    let end = Instant::now() + STOP_MAX;
    while !is_done() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Lane {
    /// Waits until the lane's threads have done what they hold. One that hangs is left alone.
    fn drop(&mut self) {
        self.orders.close();
        if self.is_hung() {
            // The driver still uses the device, and waits for its work when it is let go: it never is.
            std::mem::forget(Arc::clone(&self.shared));
            return;
        }
        let own = std::thread::current().id();
        // The last holder may be a caller that is told its outcome on one of them.
        if self.threads.iter().any(|thread| thread.thread().id() == own) {
            return;
        }
        wait_for(|| self.threads.iter().all(JoinHandle::is_finished));
    }
}

fn zeros(dtype: crate::tensor::DType, shape: &Shape) -> Result<Tensor> {
    Tensor::from_bytes(dtype, shape.clone(), vec![0; shape.elements() * dtype.bytes()])
}

#[cfg(test)]
mod tests;
