//! Those who ask, and what they know of the right answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::error::{Code, Error};
use coracle::tensor::{Dim, Signature, Tensor};

use super::process::Server;

/// Longest that a caller waits.
const DEADLINE: Duration = Duration::from_secs(20);
/// Requests known of each model.
const QUESTIONS: usize = 6;
/// How far an answer may be off, of its largest element: batches of other sizes add up in other orders.
const ROUNDING: f64 = 1e-4;
/// Codes that a request may end with while there is trouble.
const CLEAN: [Code; 3] = [Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded];
/// Failures that are told in full.
const TOLD_MAX: usize = 8;

type Values = Vec<(String, Tensor)>;

/// A model, and requests with their right answers.
pub(crate) struct Work {
    model: String,
    questions: Vec<(Values, Values)>,
}

/// Counted since the last sample, and in all.
#[derive(Default)]
pub(crate) struct Callers {
    works: Vec<Work>,
    answered: AtomicU64,
    recent: Mutex<Vec<u64>>,
    all_us: Mutex<Vec<u32>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    failures: Mutex<Vec<String>>,
}

/// Inputs of `rows` rows where that is open, made from `seed`.
fn question(signature: &Signature, rows: usize, seed: u64) -> Values {
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1u32 << 24)
    };
    let input = |spec: &coracle::tensor::Spec| {
        let dims = spec.dims.as_deref().expect("the rank of every input is known");
        let extents: Vec<usize> = dims.iter().map(|dim| Dim::fixed(dim).unwrap_or(rows)).collect();
        let scale = if spec.dtype.is_float() { 1.0 } else { 4.0 };
        let values: Vec<f64> = (0..extents.iter().product()).map(|_| (random() * scale * 8.0).floor() / 8.0).collect();
        let values = if spec.dtype.is_float() { values } else { values.iter().map(|v| v.floor()).collect() };
        (spec.name.clone(), Tensor::from_f64s(spec.dtype, extents, &values).expect("numbers"))
    };
    signature.inputs.iter().map(input).collect()
}

/// Whether two answers are the same but for rounding.
fn same(found: &Values, expected: &Values) -> bool {
    let alike = |a: &Tensor, b: &Tensor| {
        let (Ok(a_values), Ok(b_values)) = (a.to_f64s(), b.to_f64s()) else { return a == b };
        let largest = b_values.iter().fold(1e-6f64, |m, v| m.max(v.abs()));
        a.shape() == b.shape() && a_values.iter().zip(&b_values).all(|(a, b)| (a - b).abs() <= ROUNDING * largest)
    };
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| a.0 == b.0 && alike(&a.1, &b.1))
}

impl Work {
    /// Asks each model while it is calm.
    pub(crate) async fn of(server: &Server, models: &[(String, PathBuf)]) -> Vec<Self> {
        let client = Client::connect(&server.grpc, Some(DEADLINE)).await.expect("the server answers");
        let mut works = Vec::new();
        for (model, _) in models {
            let signature = client.signature(model, "serving_default").await.expect("a signature");
            let mut questions = Vec::new();
            for number in 0..QUESTIONS {
                let inputs = question(&signature, 1 + number % 3, number as u64 + 1);
                let answer = client.predict(model, "", &inputs, &[]).await.expect("an answer").outputs;
                questions.push((inputs, answer));
            }
            works.push(Self { model: model.clone(), questions });
        }
        works
    }
}

impl Callers {
    pub(crate) fn new(works: Vec<Work>) -> Self {
        Self { works, ..Self::default() }
    }

    /// Asks again and again until `end`, over one connection.
    pub(crate) async fn call(self: Arc<Self>, address: String, number: usize, end: Instant) {
        let mut turn = number;
        while Instant::now() < end {
            let Ok(client) = Client::connect(&address, Some(DEADLINE)).await else {
                self.refuse(&Error::unavailable("no connection"), "");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            while Instant::now() < end {
                turn += 1;
                let work = &self.works[turn % self.works.len()];
                if let Err(error) = self.ask(&client, work, turn).await {
                    self.refuse(&error, &work.model);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    break;
                }
            }
        }
    }

    /// Asks every model once.
    pub(crate) async fn ask_all(&self, client: &Client) -> Result<(), Error> {
        for (turn, work) in self.works.iter().enumerate() {
            self.ask(client, work, turn).await.map_err(|e| e.at(&work.model))?;
        }
        Ok(())
    }

    async fn ask(&self, client: &Client, work: &Work, turn: usize) -> Result<(), Error> {
        let (inputs, expected) = &work.questions[turn / self.works.len() % QUESTIONS];
        let start = Instant::now();
        let found = client.predict(&work.model, "", inputs, &[]).await?.outputs;
        let took = start.elapsed().as_micros() as u64;
        if same(&found, expected) {
            self.answered.fetch_add(1, Ordering::Relaxed);
            self.recent.lock().expect("nobody panics").push(took);
        } else {
            self.fail(format!("{}: a wrong answer: {found:?}, expected {expected:?}", work.model));
        }
        Ok(())
    }

    fn refuse(&self, error: &Error, model: &str) {
        *self.refused.lock().expect("nobody panics").entry(error.code().name()).or_default() += 1;
        if !CLEAN.contains(&error.code()) {
            self.fail(format!("{model}: {}: {error}", error.code().name()));
        }
    }

    fn fail(&self, what: String) {
        let mut failures = self.failures.lock().expect("nobody panics");
        if failures.len() < TOLD_MAX {
            failures.push(what.chars().take(400).collect());
        }
    }

    /// Latencies since this was asked last, in microseconds.
    pub(crate) fn recent(&self) -> Vec<u64> {
        let recent = std::mem::take(&mut *self.recent.lock().expect("nobody panics"));
        let in_all = recent.iter().map(|us| u32::try_from(*us).unwrap_or(u32::MAX));
        self.all_us.lock().expect("nobody panics").extend(in_all);
        recent
    }

    /// Requests refused in all.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.lock().expect("nobody panics").values().sum()
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().expect("nobody panics").clone()
    }

    pub(crate) fn print(&self, time: Duration) {
        let (answered, mut all) =
            (self.answered.load(Ordering::Relaxed), self.all_us.lock().expect("nobody panics").clone());
        all.sort_unstable();
        let at = |part: f64| all.get((all.len() as f64 * part) as usize).map_or(0.0, |us| f64::from(*us) / 1e3);
        println!(
            "{answered} right answers, {:.0} a second; p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms; refused: {:?}",
            answered as f64 / time.as_secs_f64(),
            at(0.5),
            at(0.99),
            at(0.999),
            self.refused.lock().expect("nobody panics")
        );
    }
}
