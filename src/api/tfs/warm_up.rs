//! Requests that come with a version, replayed before it serves.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prost::Message as _;

use super::infer::{classify_by, examples, regress_by, several_by, tasks};
use super::predict::predict_by;
use super::proto::serving::prediction_log::LogType;
use super::proto::serving::{ModelSpec, PredictionLog};
use super::record::Records;
use super::weigh::weigh;
use crate::api::budget::{Budget, Ledger};
use crate::api::inference::{Target, Terms};
use crate::batch::Priority;
use crate::error::{Code, Error, Result};
use crate::model::{DEFAULT_SIGNATURE, Replayed, Replaying, Servable, WarmUp};

/// Where the requests are in a version's folder.
const FILE: &str = "assets.extra/tf_serving_warmup_requests";
/// Requests that a file may hold.
const RECORDS_MAX: usize = 1000;

/// How recorded requests are replayed.
#[derive(Clone, Debug)]
pub struct Replay {
    /// How often each is.
    pub iterations: usize,
    /// Memory that they may hold, as other requests.
    pub budget: Arc<Budget>,
    /// Classify and Regress insist on signatures of their own method.
    pub check_method: bool,
    /// Bytes of one record.
    pub record_bytes_max: u64,
}

impl WarmUp for Replay {
    fn requests(&self, version: &Path) -> Option<PathBuf> {
        let folder = if version.is_file() { version.parent()? } else { version };
        Some(folder.join(FILE)).filter(|file| file.exists())
    }

    fn replay(&self, servable: Arc<Servable>, file: PathBuf) -> Replaying {
        let replay = self.clone();
        Box::pin(async move {
            let mut requests = 0;
            let result = replay.file(servable, &file, &mut requests).await;
            Replayed { requests, result }
        })
    }
}

impl Replay {
    /// Counts in `requests` what it reads.
    async fn file(&self, servable: Arc<Servable>, file: &Path, requests: &mut usize) -> Result<()> {
        let start = Instant::now();
        let reader = File::open(file).map_err(|e| Error::from(e).at(file.display()))?;
        let mut records = Records::new(BufReader::new(reader), self.record_bytes_max);
        loop {
            let ledger = Ledger::open(&self.budget);
            let record = records.next(|bytes| ledger.take(bytes)).map_err(|e| match e.code() {
                Code::DataLoss => {
                    let what = format!("{}. Please verify your warmup data is in TFRecord format.", e.message());
                    Error::data_loss(what).at(file.display())
                }
                _ => e.at(file.display()),
            })?;
            let Some(record) = record else { break };
            let count = *requests;
            if count == RECORDS_MAX {
                let file = file.display();
                let what = format!("Number of warmup records exceeds the maximum ({RECORDS_MAX}) at {file}");
                return Err(Error::invalid_argument(what));
            }
            *requests += 1;
            let (priority, check_method) = (Priority::default(), self.check_method);
            let terms = Terms { deadline: None, priority, ledger, check_method, log: None };
            for _ in 0..self.iterations.max(1) {
                let outcome = replayed(&servable, record.clone(), &terms).await;
                outcome.map_err(|e| e.at(format_args!("{}: record {count}", file.display())))?;
            }
        }
        tracing::info!(model = %servable.id(), requests, elapsed = ?start.elapsed(), "warmed with recorded requests");
        Ok(())
    }
}

/// Answers the request of a record, as the version that is being loaded would: whatever model it was recorded from.
async fn replayed(servable: &Arc<Servable>, record: Bytes, terms: &Terms) -> Result<()> {
    terms.ledger.take(weigh("", &record))?;
    let log = PredictionLog::decode(record)
        .map_err(|e| Error::invalid_argument(format!("Failed to parse warmup record: {e}")))?;
    let target = |spec: Option<ModelSpec>| {
        let name = spec.map(|spec| spec.signature_name).unwrap_or_default();
        let signature = if name.is_empty() { DEFAULT_SIGNATURE.to_owned() } else { name };
        Target::of(Arc::clone(servable), signature)
    };
    match log.log_type {
        Some(LogType::PredictLog(log)) => {
            let request = log.request.unwrap_or_default();
            predict_by(&target(request.model_spec), request.inputs, &request.output_filter, terms).await.map(drop)
        }
        Some(LogType::ClassifyLog(log)) => {
            let request = log.request.unwrap_or_default();
            classify_by(&target(request.model_spec), request.input, terms).await.map(drop)
        }
        Some(LogType::RegressLog(log)) => {
            let request = log.request.unwrap_or_default();
            regress_by(&target(request.model_spec), request.input, terms).await.map(drop)
        }
        Some(LogType::MultiInferenceLog(log)) => {
            let request = log.request.unwrap_or_default();
            let (tasks, examples) = (tasks(request.tasks)?, examples(request.input, &terms.ledger)?);
            several_by(&target(None), &tasks, &examples, terms).await.map(drop)
        }
        other => {
            let number = match other {
                Some(LogType::SessionRunLog(_)) => 5,
                Some(LogType::PredictStreamedLog(_)) => 7,
                _ => 0,
            };
            Err(Error::unimplemented(format!("Unsupported log_type for warmup: {number}")))
        }
    }
}
