//! `coracle bench --server --rate`: requests at a given rate, whatever becomes of those before.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::bench::{Args, quantile};
use super::bench_server::{CALLERS_PER_CONNECTION, Target};
use super::output::line;
use super::own_cpu::own_cpu;
use crate::api::Client;
use crate::error::Code;

/// Requests that may be under way; beyond it those that are due are not sent, and counted.
const UNDER_WAY_MAX: usize = 4096;

/// One line of `--json`; times in microseconds, from the moment at which a request was due.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    rate: f64,
    seconds: f64,
    due: usize,
    not_sent: usize,
    succeeded: usize,
    refused: usize,
    failed: usize,
    rows_per_s: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    refused_p50_us: f64,
    refused_p99_us: f64,
    /// Processor seconds of this process, for each second.
    own_cpu: f64,
}

/// How a request ended, and how long after it was due.
struct End {
    code: Option<Code>,
    micros: f64,
}

/// Drives the server at `rate` requests a second.
pub(super) fn run(args: &Args, model: &str, address: &str, rate: f64) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(rate.is_finite() && rate > 0.0, "--rate is {rate}, expected a positive number");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let report = runtime.block_on(drive(args, model, address, rate))?;
    if args.json {
        line(&serde_json::to_string(&report)?);
    } else {
        line(&format!(
            "{} at {} requests/s: {} due, {} answered, {} refused, {} failed, {} not sent; own processor time {:.0} %\n\
             throughput {:>10.1} rows/s\n\
             latency    {:>10.0} µs median, {:.0} µs p90, {:.0} µs p99",
            report.model,
            report.rate,
            report.due,
            report.succeeded,
            report.refused,
            report.failed,
            report.not_sent,
            report.own_cpu * 100.0,
            report.rows_per_s,
            report.p50_us,
            report.p90_us,
            report.p99_us,
        ));
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn drive(args: &Args, model: &str, address: &str, rate: f64) -> anyhow::Result<Report> {
    let first = Client::connect(address, None).await?;
    let target = Arc::new(Target::find(args, model, &first).await?);
    let mut clients = vec![first];
    for _ in 1..(args.concurrency as usize).div_ceil(CALLERS_PER_CONNECTION) {
        clients.push(Client::connect(address, None).await?);
    }
    let (places, mut random) = (Arc::new(Semaphore::new(UNDER_WAY_MAX)), Pcg64Mcg::seed_from_u64(7));
    let (start, cpu) = (Instant::now(), own_cpu());
    let end = start + Duration::try_from_secs_f64(args.seconds)?;
    let (mut at, mut due, mut not_sent, mut tasks) = (start, 0, 0, tokio::task::JoinSet::new());
    let mut ends = Vec::new();
    loop {
        // Gaps as those of callers that know nothing of each other: exponential, never of a zero.
        let uniform = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        at += Duration::from_secs_f64(-(1.0 - uniform).ln() / rate);
        if at >= end {
            break;
        }
        tokio::time::sleep_until(at.into()).await;
        while let Some(ended) = tasks.try_join_next() {
            ends.push(ended?);
        }
        due += 1;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            not_sent += 1;
            continue;
        };
        let (client, target, due_at) = (clients[due % clients.len()].clone(), Arc::clone(&target), at);
        tasks.spawn(async move {
            let _place = place;
            let outcome = client.predict(&target.model, "serving_default", &target.inputs, &[]).await;
            End { code: outcome.err().map(|e| e.code()), micros: due_at.elapsed().as_secs_f64() * 1e6 }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ends.push(ended.context("a request panicked")?);
    }
    let seconds = start.elapsed().as_secs_f64();
    let own_cpu = cpu.zip(own_cpu()).map_or(f64::NAN, |(before, after)| (after - before) / seconds);
    let of = |wanted: &dyn Fn(Option<Code>) -> bool| {
        let mut times: Vec<f64> = ends.iter().filter(|end| wanted(end.code)).map(|end| end.micros).collect();
        times.sort_by(f64::total_cmp);
        times
    };
    let is_refusal = |code| matches!(code, Some(Code::ResourceExhausted | Code::Unavailable));
    let (answered, refused) = (of(&|code: Option<Code>| code.is_none()), of(&is_refusal));
    Ok(Report {
        model: model.to_owned(),
        rate,
        seconds,
        due,
        not_sent,
        succeeded: answered.len(),
        refused: refused.len(),
        failed: ends.len() - answered.len() - refused.len(),
        rows_per_s: (answered.len() * target.rows) as f64 / seconds,
        p50_us: quantile(&answered, 0.5),
        p90_us: quantile(&answered, 0.9),
        p99_us: quantile(&answered, 0.99),
        refused_p50_us: quantile(&refused, 0.5),
        refused_p99_us: quantile(&refused, 0.99),
        own_cpu,
    })
}
