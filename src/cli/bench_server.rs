//! `coracle bench --server`: many callers at once against a running server.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use super::bench::{Args, quantile};
use super::bench_inputs;
use super::output::line;
use crate::api::Client;
use crate::tensor::Tensor;

/// Callers that share one connection: more would wait for each other's frames.
pub(super) const CALLERS_PER_CONNECTION: usize = 16;

/// One line of `--json`; times in microseconds.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    concurrency: usize,
    requests: usize,
    errors: usize,
    requests_per_s: f64,
    rows_per_s: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
}

/// What is asked.
pub(super) struct Target {
    pub(super) model: String,
    pub(super) inputs: Vec<(String, Tensor)>,
    /// Of one request.
    pub(super) rows: usize,
}

impl Target {
    /// Finds out what the model takes, makes inputs for it, and asks once.
    pub(super) async fn find(args: &Args, model: &str, client: &Client) -> anyhow::Result<Self> {
        let signature = client.signature(model, "serving_default").await?;
        let tensors = bench_inputs::inputs(args, &signature, std::path::Path::new(""))?;
        let rows = tensors.first().and_then(|t| t.shape().first().copied()).unwrap_or(1);
        let names = signature.inputs.iter().map(|s| s.name.clone());
        let inputs: Vec<(String, Tensor)> = names.zip(tensors).collect();
        client.predict(model, "serving_default", &inputs, &[]).await.context("the first request failed")?;
        Ok(Self { model: model.to_owned(), inputs, rows })
    }
}

/// What all callers share.
struct Load {
    target: Target,
    end: Instant,
    done: AtomicUsize,
    errors: AtomicUsize,
}

/// Drives the server.
pub(super) fn run(args: &Args, model: &str, address: &str) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(drive(args, model, address))?;
    if args.json {
        line(&serde_json::to_string(&report)?);
    } else {
        line(&format!(
            "{} with {} callers: {} requests, {} errors\n\
             throughput {:>10.1} requests/s, {:.1} rows/s\n\
             latency    {:>10.0} µs median, {:.0} µs p90, {:.0} µs p99",
            report.model,
            report.concurrency,
            report.requests,
            report.errors,
            report.requests_per_s,
            report.rows_per_s,
            report.p50_us,
            report.p90_us,
            report.p99_us,
        ));
    }
    Ok(if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn drive(args: &Args, model: &str, address: &str) -> anyhow::Result<Report> {
    let first = Client::connect(address, None).await?;
    let target = Target::find(args, model, &first).await?;
    let rows = target.rows;
    let callers = args.concurrency as usize;
    let mut clients = vec![first];
    for _ in 1..callers.div_ceil(CALLERS_PER_CONNECTION) {
        clients.push(Client::connect(address, None).await?);
    }
    let start = Instant::now();
    let load = Arc::new(Load {
        target,
        end: start + Duration::try_from_secs_f64(args.seconds)?,
        done: AtomicUsize::new(0),
        errors: AtomicUsize::new(0),
    });
    let tasks: Vec<_> = (0..callers)
        .map(|caller| tokio::spawn(call(clients[caller % clients.len()].clone(), Arc::clone(&load))))
        .collect();
    let progress = tokio::spawn(show_progress(Arc::clone(&load), start));
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await?);
    }
    let elapsed = start.elapsed().as_secs_f64();
    progress.abort();
    latencies.sort_by(f64::total_cmp);
    let succeeded = latencies.len() as f64;
    Ok(Report {
        model: model.to_owned(),
        concurrency: callers,
        requests: load.done.load(Ordering::Relaxed),
        errors: load.errors.load(Ordering::Relaxed),
        requests_per_s: succeeded / elapsed,
        rows_per_s: succeeded * rows as f64 / elapsed,
        p50_us: quantile(&latencies, 0.5),
        p90_us: quantile(&latencies, 0.9),
        p99_us: quantile(&latencies, 0.99),
    })
}

/// One caller: the next request when the last is answered. Returns the latencies of those that succeeded.
async fn call(client: Client, load: Arc<Load>) -> Vec<f64> {
    let mut latencies = Vec::new();
    while Instant::now() < load.end {
        let start = Instant::now();
        match client.predict(&load.target.model, "serving_default", &load.target.inputs, &[]).await {
            Ok(_) => latencies.push(start.elapsed().as_secs_f64() * 1e6),
            Err(_) => drop(load.errors.fetch_add(1, Ordering::Relaxed)),
        }
        load.done.fetch_add(1, Ordering::Relaxed);
    }
    latencies
}

/// One line on standard error, written over every second.
async fn show_progress(load: Arc<Load>, start: Instant) {
    use std::io::Write as _;
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        let (done, errors) = (load.done.load(Ordering::Relaxed), load.errors.load(Ordering::Relaxed));
        // Nobody may be looking.
        drop(write!(std::io::stderr(), "\r{:.0} s: {done} requests, {errors} errors ", start.elapsed().as_secs_f64()));
    }
}
