//! Requests and their replies, written down as TFRecords of PredictionLogs. Whoever answers a request never waits for it: what
//! does not fit the queue is dropped and counted.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message as _;

use super::encode::{Form, encode};
use super::infer::{classifications, inference, regressions};
use super::log_file::LogFile;
use super::proto::serving::input::Kind;
use super::proto::serving::prediction_log::LogType;
use super::proto::serving::{
    ClassificationRequest, ClassificationResponse, ClassifyLog, ExampleList, InferenceResult, InferenceTask, Input,
    LogMetadata, ModelSpec, MultiInferenceLog, MultiInferenceRequest, MultiInferenceResponse, PredictLog,
    PredictRequest, PredictResponse, PredictionLog, RegressLog, RegressionRequest, RegressionResponse, SamplingConfig,
};
use super::spec::answered;
use crate::api::inference::{Answered, Recorder, example};
use crate::api::observer::{Logged, Observer};
use crate::error::{Error, Result};
use crate::model::{Example, Logging, ServableId};
use crate::tensor::Tensor;

/// Requests that wait to be written.
const QUEUED_MAX: usize = 4096;
/// Bytes that they hold.
const QUEUED_BYTES_MAX: u64 = 64 << 20;
/// Files that are open at a time.
const FILES_MAX: usize = 256;
/// What a request holds beside its tensors.
const ENTRY_BYTES: u64 = 1 << 10;

/// A request to be written down.
struct Entry {
    id: ServableId,
    logging: Arc<Logging>,
    answered: Answered,
    bytes: u64,
    at: SystemTime,
}

/// Writes requests down on a thread of its own.
pub struct RequestLog {
    entries: Mutex<Option<mpsc::SyncSender<Entry>>>,
    queued_bytes: Arc<AtomicU64>,
    drawn: AtomicU64,
    observer: Arc<dyn Observer>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for RequestLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLog").field("queued_bytes", &self.queued_bytes).finish_non_exhaustive()
    }
}

impl RequestLog {
    /// Writes into `folder`, at most `bytes_max` bytes for each prefix.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(folder: PathBuf, bytes_max: u64, observer: Arc<dyn Observer>) -> Result<Arc<Self>> {
        let (sender, entries) = mpsc::sync_channel::<Entry>(QUEUED_MAX);
        let queued_bytes = Arc::new(AtomicU64::new(0));
        let (queued, watcher) = (Arc::clone(&queued_bytes), Arc::clone(&observer));
        let mut writer = Writer { folder, bytes_max, files: HashMap::new(), complaint: None };
        let thread = std::thread::Builder::new().name("request-log".into()).spawn(move || {
            for entry in entries {
                let outcome = writer.write(&entry);
                watcher.logged(&entry.id, if outcome { Logged::Written } else { Logged::Failed });
                queued.fetch_sub(entry.bytes, Ordering::Relaxed);
            }
        })?;
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        Ok(Arc::new(Self {
            entries: Mutex::new(Some(sender)),
            queued_bytes,
            drawn: AtomicU64::new(seed),
            observer,
            writer: Mutex::new(Some(thread)),
        }))
    }

    /// Takes no more and writes what it holds.
    pub fn finish(&self) {
        drop(self.entries.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // One that panicked has written what it could.
        drop(thread.map(JoinHandle::join));
    }
}

impl Recorder for RequestLog {
    fn draws(&self, logging: &Logging) -> bool {
        // Each number's hash is as good as a random number.
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let fraction = (xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes()) >> 11) as f64 / (1u64 << 53) as f64;
        fraction < logging.sampling_rate
    }

    fn offer(&self, id: &ServableId, logging: Arc<Logging>, answered: Answered) {
        let bytes = ENTRY_BYTES + answered.bytes();
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let entry = Entry { id: id.clone(), logging, answered, bytes, at: SystemTime::now() };
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = before.saturating_add(bytes) <= QUEUED_BYTES_MAX;
        let sent = fits && entries.as_ref().is_some_and(|entries| entries.try_send(entry).is_ok());
        if !sent {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.observer.logged(id, Logged::Dropped);
        }
    }
}

/// The thread's own.
struct Writer {
    folder: PathBuf,
    bytes_max: u64,
    files: HashMap<String, LogFile>,
    /// What was said last of what fails.
    complaint: Option<String>,
}

impl Writer {
    /// Whether it was written.
    fn write(&mut self, entry: &Entry) -> bool {
        match self.try_write(entry) {
            Ok(()) => {
                self.complaint = None;
                true
            }
            Err(error) => {
                // The file is opened anew next time.
                self.files.remove(&entry.logging.prefix);
                let text = error.to_string();
                if self.complaint.as_ref() != Some(&text) {
                    tracing::warn!(model = %entry.id, "a request could not be written down: {text}");
                    self.complaint = Some(text);
                }
                false
            }
        }
    }

    fn try_write(&mut self, entry: &Entry) -> Result<()> {
        let record = record(entry)?.encode_to_vec();
        let prefix = &entry.logging.prefix;
        if !self.files.contains_key(prefix) {
            if self.files.len() >= FILES_MAX {
                self.files.clear();
            }
            self.files.insert(prefix.clone(), LogFile::open(&self.folder, prefix, self.bytes_max)?);
        }
        let file = self.files.get_mut(prefix).ok_or_else(|| Error::internal("the file was just opened"))?;
        file.append(&record)
    }
}

fn record(entry: &Entry) -> Result<PredictionLog> {
    let Entry { id, logging, answered: what, at, .. } = entry;
    let (name, log) = match what {
        Answered::Predict { signature, inputs, filter, outputs } => {
            (signature, predict(id, signature, inputs, filter, outputs)?)
        }
        Answered::Classify { signature, examples, classes } => {
            let model_spec = Some(answered(id, signature));
            let request = ClassificationRequest { model_spec: model_spec.clone(), input: Some(input(examples)) };
            let response = ClassificationResponse { result: Some(classifications(classes.clone())), model_spec };
            (signature, LogType::ClassifyLog(ClassifyLog { request: Some(request), response: Some(response) }))
        }
        Answered::Regress { signature, examples, values } => {
            let model_spec = Some(answered(id, signature));
            let request = RegressionRequest { model_spec: model_spec.clone(), input: Some(input(examples)) };
            let response = RegressionResponse { result: Some(regressions(values.clone())), model_spec };
            (signature, LogType::RegressLog(RegressLog { request: Some(request), response: Some(response) }))
        }
        Answered::Several { examples, tasks } => {
            let asked = tasks.iter().map(|(signature, method, _)| InferenceTask {
                model_spec: Some(answered(id, signature)),
                method_name: method.name().to_owned(),
            });
            let request = MultiInferenceRequest { tasks: asked.collect(), input: Some(input(examples)) };
            let results = tasks.iter().map(|(signature, _, inferred)| InferenceResult {
                model_spec: Some(answered(id, signature)),
                result: Some(inference(inferred.clone())),
            });
            let response = MultiInferenceResponse { results: results.collect() };
            let log = MultiInferenceLog { request: Some(request), response: Some(response) };
            (&tasks[0].0, LogType::MultiInferenceLog(log))
        }
    };
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let metadata = LogMetadata {
        model_spec: Some(answered(id, name)),
        sampling_config: Some(SamplingConfig { sampling_rate: logging.sampling_rate }),
        timestamp_secs: i64::try_from(seconds).unwrap_or(i64::MAX),
    };
    Ok(PredictionLog { log_metadata: Some(metadata), log_type: Some(log) })
}

fn predict(
    id: &ServableId,
    signature: &str,
    inputs: &[(String, Tensor)],
    filter: &[String],
    outputs: &[(String, Tensor)],
) -> Result<LogType> {
    let encoded = |tensors: &[(String, Tensor)]| {
        tensors.iter().map(|(name, tensor)| Ok((name.clone(), encode(tensor, Form::Content)?))).collect::<Result<_>>()
    };
    let model_spec: Option<ModelSpec> = Some(answered(id, signature));
    let request =
        PredictRequest { model_spec: model_spec.clone(), inputs: encoded(inputs)?, output_filter: filter.to_vec() };
    let response = PredictResponse { outputs: encoded(outputs)?, model_spec };
    Ok(LogType::PredictLog(PredictLog { request: Some(request), response: Some(response) }))
}

fn input(examples: &[Example]) -> Input {
    let examples = examples.iter().map(example).collect();
    Input { kind: Some(Kind::ExampleList(ExampleList { examples })) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::observer::Silent;

    fn logging(sampling_rate: f64) -> Logging {
        Logging { prefix: "m".to_owned(), sampling_rate }
    }

    #[test]
    fn about_as_many_are_drawn_as_the_rate_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = RequestLog::start(folder.path().into(), 1 << 20, Arc::new(Silent)).expect("a thread");
        let drawn = |rate| (0..10_000).filter(|_| log.draws(&logging(rate))).count();
        assert_eq!((drawn(0.0), drawn(1.0)), (0, 10_000));
        // Ten standard deviations.
        let quarter = drawn(0.25);
        assert!((2070..=2930).contains(&quarter), "{quarter}");
    }

    #[test]
    fn what_is_finished_takes_no_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = RequestLog::start(folder.path().into(), 1 << 20, Arc::new(Silent)).expect("a thread");
        let id = ServableId { name: "m".into(), version: 1 };
        let x = vec![("x".to_owned(), Tensor::scalar(1.0f32))];
        let offer = || {
            let (inputs, outputs) = (x.clone(), Vec::new());
            let signature = "serving_default".to_owned();
            let answered = Answered::Predict { signature, inputs, filter: Vec::new(), outputs };
            log.offer(&id, Arc::new(logging(1.0)), answered);
        };
        offer();
        log.finish();
        offer();
        assert_eq!(log.queued_bytes.load(Ordering::Relaxed), 0);
        let written = std::fs::metadata(folder.path().join("m.tfrecord")).expect("the log").len();
        assert!(written > 0);
    }
}
