//! One case of `coracle verify`: loaded and run on a thread that may be given up on.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::cases::{Case, Kind};
use super::compare::{Difference, Tolerance, compare};
use super::device_args::DeviceArgs;
use super::tensors;
use super::ties::untied;
use crate::engine::ir::Graph;
use crate::engine::ir::oracle;
use crate::engine::{Demand, Engine, LaneCount, LoadOptions, Session};
use crate::error::{Code, Error};
use crate::formats::onnx;
use crate::model::Settings;
use crate::tensor::{DType, Spec, Tensor};

/// Bytes of a case's stack: hostile models nest deeply.
const STACK_BYTES: usize = 16 << 20;

/// How a data set went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// As expected.
    Pass,
    /// Other values than expected.
    Fail,
    /// The model needs what does not exist here.
    Unsupported,
    /// Something broke.
    Error,
    /// Not done in time.
    Timeout,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Status::Pass => "pass",
            Status::Fail => "fail",
            Status::Unsupported => "unsupported",
            Status::Error => "error",
            Status::Timeout => "timeout",
        }
    }
}

/// What is said of one data set.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) status: Status,
    pub(super) max_abs: Option<f64>,
    pub(super) max_rel_to_range: Option<f64>,
    pub(super) message: String,
    pub(super) host_steps: Vec<String>,
}

impl Outcome {
    fn stopped(status: Status, message: impl Into<String>) -> Self {
        Self { status, max_abs: None, max_rel_to_range: None, message: message.into(), host_steps: Vec::new() }
    }

    fn of_error(error: &anyhow::Error) -> Self {
        let unsupported =
            error.chain().filter_map(|e| e.downcast_ref::<Error>()).any(|e| e.code() == Code::Unimplemented);
        Self::stopped(if unsupported { Status::Unsupported } else { Status::Error }, chain(error))
    }
}

/// The error and its causes, each said once: some causes are already part of the message above them.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    text
}

/// Tolerances from the command line, which go before a case's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    pub(super) rtol: Option<f64>,
    pub(super) atol: Option<f64>,
}

impl Judge {
    fn tolerance(self, case: &Case, data_set: u64, output: usize, rounds: bool) -> Tolerance {
        match (self.rtol, self.atol, case.tolerances) {
            (None, None, Some((rtol, atol))) => Tolerance::Given { rtol, atol },
            (None, None, None) => Tolerance::Range { noise_max_abs: case.noise_max_abs(data_set, output), rounds },
            (rtol, atol, _) => Tolerance::Given { rtol: rtol.unwrap_or(0.0), atol: atol.unwrap_or(0.0) },
        }
    }
}

/// Where models run.
#[derive(Clone, Debug)]
pub(super) enum Runtime {
    /// Operator by operator on the host.
    Host,
    /// On an adapter.
    Device(Arc<Engine>),
    /// No adapter could be used, and why.
    None(Error),
}

impl Runtime {
    pub(super) fn start(host: bool, device: &DeviceArgs) -> Self {
        if host {
            return Runtime::Host;
        }
        Engine::start(&device.engine_options(LaneCount::Exactly(1), 2)).map_or_else(Runtime::None, Runtime::Device)
    }

    pub(super) fn device(&self) -> &str {
        match self {
            Runtime::Host => "host",
            Runtime::Device(engine) => engine.adapter().name(),
            Runtime::None(_) => "none",
        }
    }

    /// Kernels compiled so far, equal ones counted once.
    pub(super) fn kernels(&self) -> usize {
        match self {
            Runtime::Device(engine) => engine.lanes().iter().map(|lane| lane.pipeline_count()).max().unwrap_or(0),
            Runtime::Host | Runtime::None(_) => 0,
        }
    }

    fn load(&self, folder: &Path) -> anyhow::Result<Model> {
        let graph = onnx::import(&folder.join("model.onnx"))?;
        let rounds = rounds(&graph);
        let runnable = match self {
            Runtime::Host => Runnable::Host(graph),
            Runtime::Device(engine) => {
                let name = folder.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
                let options = LoadOptions { name, single: true, warm: false, ..LoadOptions::default() };
                Runnable::Device(engine.load(graph, Settings::beside(folder)?.apply(options))?)
            }
            Runtime::None(error) => return Err(error.clone().into()),
        };
        Ok(Model { runnable, rounds })
    }
}

struct Model {
    runnable: Runnable,
    /// Whether it rounds to few bits inside.
    rounds: bool,
}

enum Runnable {
    Host(Graph),
    Device(Arc<Session>),
}

/// Whether a model quantises what it computes, or holds it as 16-bit floats.
fn rounds(graph: &Graph) -> bool {
    let quantises =
        |name: &str| name.starts_with('Q') || ["Quantize", "Integer", "NBits"].iter().any(|w| name.contains(w));
    let half = |dtype: DType| matches!(dtype, DType::F16 | DType::BF16);
    graph.nodes.iter().any(|n| quantises(n.op.name()))
        || graph.values.iter().filter_map(|v| v.constant.as_ref()).any(|t| half(t.dtype()))
        || graph.signature.inputs.iter().any(|spec| half(spec.dtype))
}

impl Model {
    fn run(&self, data_set: &Path) -> anyhow::Result<(Vec<Spec>, Vec<Tensor>, Vec<String>)> {
        let signature = match &self.runnable {
            Runnable::Host(graph) => &graph.signature,
            Runnable::Device(session) => session.signature(),
        };
        let inputs = arranged(read_all(data_set, "input", &signature.inputs)?, &signature.inputs, Missing::Refused)?;
        let inputs: Vec<Tensor> = inputs.into_iter().flatten().collect();
        let (outputs, host_steps) = match &self.runnable {
            Runnable::Host(graph) => (oracle::evaluate(graph, &inputs)?, Vec::new()),
            Runnable::Device(session) => {
                let run = pollster::block_on(session.run(inputs, Demand::default()))?;
                (run.outputs, run.host_steps)
            }
        };
        Ok((signature.outputs.clone(), outputs, host_steps))
    }
}

/// Runs every data set of `case` and tells `report` of each as soon as it is known.
pub(super) fn run(
    case: &Case,
    runtime: &Runtime,
    judge: Judge,
    timeout: Duration,
    report: &mut dyn FnMut(u64, &Outcome),
) {
    if case.kind == Kind::SavedModel {
        let outcome = Outcome::stopped(Status::Unsupported, "SavedModel folders are not supported yet");
        return case.data_sets.iter().for_each(|(number, _)| report(*number, &outcome));
    }
    let mut worker: Option<Worker> = None;
    let mut stopped: Option<Outcome> = None;
    for (number, folder) in &case.data_sets {
        if let Some(outcome) = &stopped {
            report(*number, outcome);
            continue;
        }
        let end = Instant::now() + timeout;
        let current = worker.get_or_insert_with(|| Worker::start(case.clone(), runtime.clone(), judge));
        if let Err(outcome) = current.wait_until_loaded(end) {
            report(*number, &outcome);
            stopped = Some(outcome);
            continue;
        }
        let outcome = current.run(*number, folder, end);
        // A thread that does not answer is left behind, and the next data set begins anew.
        if outcome.status == Status::Timeout {
            worker = None;
        }
        report(*number, &outcome);
    }
}

type Answers = Receiver<Result<Option<Outcome>, Outcome>>;

struct Worker {
    questions: Sender<(u64, std::path::PathBuf)>,
    /// First whether the model was loaded, then an outcome for each question.
    answers: Answers,
    loaded: bool,
}

impl Worker {
    fn start(case: Case, runtime: Runtime, judge: Judge) -> Self {
        let (questions, asked) = channel::<(u64, std::path::PathBuf)>();
        let (answer, answers) = channel();
        let work = move || {
            let model = match runtime.load(&case.folder) {
                Ok(model) => model,
                // The other side may have given up; then nobody wants the answer.
                Err(error) => return drop(answer.send(Err(Outcome::of_error(&error)))),
            };
            let mut listening = answer.send(Ok(None)).is_ok();
            while let (true, Ok((number, folder))) = (listening, asked.recv()) {
                let outcome = judged(&model, &case, judge, number, &folder);
                listening = answer.send(Ok(Some(outcome.unwrap_or_else(|e| Outcome::of_error(&e))))).is_ok();
            }
        };
        // Without a thread the answers' channel closes, which is reported as what it is.
        if let Err(error) = thread::Builder::new().name("verify".into()).stack_size(STACK_BYTES).spawn(work) {
            tracing::error!(%error, "no thread for a case");
        }
        Self { questions, answers, loaded: false }
    }

    fn wait_until_loaded(&mut self, end: Instant) -> Result<(), Outcome> {
        if !self.loaded {
            self.answer(end, "loading")?;
            self.loaded = true;
        }
        Ok(())
    }

    fn run(&self, number: u64, folder: &Path, end: Instant) -> Outcome {
        if self.questions.send((number, folder.to_owned())).is_err() {
            return Outcome::stopped(Status::Error, "the case's thread has stopped");
        }
        match self.answer(end, "running") {
            Ok(Some(outcome)) | Err(outcome) => outcome,
            Ok(None) => Outcome::stopped(Status::Error, "the case's thread gave no outcome"),
        }
    }

    fn answer(&self, end: Instant, doing: &str) -> Result<Option<Outcome>, Outcome> {
        match self.answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(Outcome::stopped(Status::Timeout, format!("{doing} took too long"))),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Outcome::stopped(Status::Error, format!("panicked while {doing}")))
            }
        }
    }
}

fn judged(model: &Model, case: &Case, judge: Judge, number: u64, folder: &Path) -> anyhow::Result<Outcome> {
    let (specs, actual, host_steps) = model.run(folder)?;
    let expected = arranged(read_all(folder, "output", &specs)?, &specs, Missing::Allowed)?;
    let actual = untied(&expected, actual)?;
    let mut outcome = Outcome { host_steps, ..Outcome::stopped(Status::Pass, "") };
    let mut reasons = Vec::new();
    let mut compared = 0;
    for (index, ((spec, actual), expected)) in specs.iter().zip(&actual).zip(&expected).enumerate() {
        let Some(expected) = expected else { continue };
        compared += 1;
        let difference = compare(expected, actual, judge.tolerance(case, number, index, model.rounds));
        outcome.max_abs = Difference::larger(outcome.max_abs, difference.max_abs);
        outcome.max_rel_to_range = Difference::larger(outcome.max_rel_to_range, difference.max_rel_to_range);
        reasons.extend(difference.reason.map(|reason| format!("output {:?}: {reason}", spec.name)));
    }
    anyhow::ensure!(compared > 0, "{} holds no expected output", folder.display());
    if !reasons.is_empty() {
        outcome.status = Status::Fail;
        outcome.message = reasons.join("; ");
    }
    Ok(outcome)
}

/// `KIND_0.pb`, `KIND_1.pb`, … of a data set. Files do not say whether they hold a sequence: the model does, by their order.
fn read_all(folder: &Path, kind: &str, specs: &[Spec]) -> anyhow::Result<Vec<(String, Tensor)>> {
    let file = |i: usize| folder.join(format!("{kind}_{i}.pb"));
    let files = (0..).map(file).take_while(|path| path.is_file()).enumerate();
    let dtype = |i: usize| specs.get(i).map_or(DType::F32, |spec| spec.dtype);
    files.map(|(i, path)| tensors::read_proto(&path, dtype(i))).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Allowed,
    Refused,
}

/// `tensors` in the order of `specs`: by name, the rest by position.
fn arranged(tensors: Vec<(String, Tensor)>, specs: &[Spec], missing: Missing) -> anyhow::Result<Vec<Option<Tensor>>> {
    let mut places: Vec<Option<Tensor>> = vec![None; specs.len()];
    let mut unnamed = Vec::new();
    for (name, tensor) in tensors {
        match specs.iter().position(|s| s.name == name).filter(|at| places[*at].is_none()) {
            Some(at) => places[at] = Some(tensor),
            None => unnamed.push((name, tensor)),
        }
    }
    for (name, tensor) in unnamed {
        let free = places.iter_mut().find(|p| p.is_none());
        *free.with_context(|| format!("the model has no place for {name:?}"))? = Some(tensor);
    }
    if let Some(at) = places.iter().position(|p| p.is_none() && missing == Missing::Refused) {
        anyhow::bail!("the data set lacks input {:?}", specs[at].name);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_find_their_places_by_name_then_position() {
        let spec = |name: &str| Spec::tensor(name, DType::I64, None);
        let specs = [spec("a"), spec("b"), spec("c")];
        let tensor = |name: &str, value: i64| (name.to_owned(), Tensor::scalar(value));
        let given = vec![tensor("x", 1), tensor("a", 2), tensor("y", 3)];
        let placed = arranged(given.clone(), &specs, Missing::Refused).expect("three for three");
        assert_eq!(placed, [2, 1, 3].map(|v: i64| Some(Tensor::scalar(v))));
        assert!(arranged(given[..2].to_vec(), &specs, Missing::Refused).is_err());
        assert_eq!(arranged(given[..2].to_vec(), &specs, Missing::Allowed).expect("two")[2], None);
        assert!(arranged(given, &specs[..2], Missing::Refused).is_err());
    }
}
