//! `coracle bench` in this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::bench::{Args, quantile};
use super::bench_inputs;
use super::bench_profile;
use super::own_cpu::own_cpu;
use crate::engine::device::{Adapter, Mask, Times, measure_ceilings};
use crate::engine::{Demand, Engine, LoadOptions, Profiled, Session};
use crate::formats::onnx;
use crate::model::Settings;
use crate::tensor::{Shape, Tensor};

/// One line of `--json`; times in microseconds.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    device: String,
    batch: usize,
    lanes: usize,
    in_flight: usize,
    /// Runs timed one at a time.
    runs: usize,
    /// Host tensors in to host tensors out, one in flight.
    median_us: f64,
    p10_us: f64,
    p90_us: f64,
    /// Converting and copying inputs.
    upload_us: f64,
    /// Recording the commands, by the wall clock of the submission thread: off the request's path once warm.
    encode_us: f64,
    /// Handing them to the driver, likewise.
    submit_us: f64,
    compute_us: f64,
    read_back_us: f64,
    /// The very first run: compiling, uploading weights, the driver's own compiling.
    first_run_us: f64,
    /// 2 × multiply-adds of a run, in 10⁹.
    gflop: f64,
    gflop_per_s: f64,
    /// With `in_flight` runs on each of `lanes` lanes.
    #[serde(flatten)]
    throughput: Throughput,
    /// Time by part of the load, the first run's included.
    load_ms: BTreeMap<&'static str, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<bench_profile::Report>,
}

/// What `in_flight` runs on each lane come to.
#[derive(Debug, Serialize)]
struct Throughput {
    rows_per_s: f64,
    /// Processor time of this process for a run, the driver's threads included, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_us: Option<f64>,
    /// Share of the time in which each lane had work.
    lane_busy: Vec<f64>,
}

/// Measures what the adapter could do at best.
pub(super) fn ceilings(args: &Args) -> anyhow::Result<ExitCode> {
    let adapter = Adapter::pick(&args.device.device)?;
    let mask = Mask::new(&args.device.without, args.device.family.as_deref())?;
    let ceilings = measure_ceilings(&adapter, &adapter.profile(&mask))?;
    if args.json {
        super::output::line(&serde_json::to_string(&ceilings)?);
    } else {
        super::output::line(&format!("{}\n{ceilings}", adapter.name()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures a model in this process.
pub(super) fn run(args: &Args, path: &Path) -> anyhow::Result<ExitCode> {
    let file = onnx::locate(path)?;
    let graph = onnx::import(&file).with_context(|| format!("loading {}", file.display()))?;
    let inputs = bench_inputs::inputs(args, &graph.signature, &file)?;
    let options = args.device.engine_options(args.lanes, (args.in_flight as usize).max(2));
    let engine = Engine::start(&options)?;
    let name = path.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
    let load = LoadOptions { name: name.clone(), single: true, warm: false, ..LoadOptions::default() };
    let session = engine.load(graph, Settings::beside(&file)?.apply(load))?;

    let shapes: Vec<Shape> = inputs.iter().map(|t| t.shape().clone()).collect();
    session.tune(&shapes)?;
    let start = Instant::now();
    let (_, _) = once(&session, &inputs)?;
    let first_run_us = micros(start.elapsed());
    session.wait_for_lanes(&shapes, Duration::from_secs(120))?;

    let lanes = engine.lanes().len();
    let share = if lanes > 1 || args.in_flight > 1 { args.seconds / 2.0 } else { args.seconds };
    let alone = one_at_a_time(&session, &inputs, Duration::from_secs_f64(share))?;
    let throughput = throughput(&engine, &session, &inputs, args, Duration::from_secs_f64(share))?;
    let profile = profiled(args, &engine, &session, &shapes, alone.times.last())?;
    let gflop = session.flops(&shapes).unwrap_or(0.0) / 1e9;
    let compute_us = alone.part(|t| t.device);
    let report = Report {
        model: name,
        device: engine.adapter().name().to_owned(),
        batch: inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(1),
        lanes,
        in_flight: args.in_flight as usize,
        runs: alone.total.len(),
        median_us: quantile(&alone.total, 0.5),
        p10_us: quantile(&alone.total, 0.1),
        p90_us: quantile(&alone.total, 0.9),
        upload_us: alone.part(|t| t.upload),
        encode_us: alone.part(|t| t.encode),
        submit_us: alone.part(|t| t.submit),
        compute_us,
        read_back_us: alone.part(|t| t.read_back),
        first_run_us,
        gflop,
        gflop_per_s: if compute_us > 0.0 { gflop / (compute_us * 1e-6) } else { 0.0 },
        throughput,
        load_ms: session.load_times().parts().into_iter().map(|(part, time)| (part, micros(time) / 1e3)).collect(),
        profile,
    };
    print(&report, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// How often every dispatch is timed.
const PROFILE_RUNS: usize = 9;

/// Times every dispatch, if that is asked for, and writes the trace.
fn profiled(
    args: &Args,
    engine: &Engine,
    session: &Session,
    shapes: &[Shape],
    run: Option<&Times>,
) -> anyhow::Result<Option<bench_profile::Report>> {
    if !args.profile && args.trace.is_none() {
        return Ok(None);
    }
    let lanes = session.profile(shapes, PROFILE_RUNS)?;
    if let (Some(path), Some(run)) = (&args.trace, run) {
        bench_profile::write_trace(path, run, &lanes)?;
    }
    let report = |dispatches: &Vec<Profiled>| -> anyhow::Result<_> {
        let ceilings = measure_ceilings(engine.adapter(), engine.profile())?;
        Ok(bench_profile::Report::new(dispatches, ceilings))
    };
    lanes.first().filter(|_| args.profile).map(report).transpose()
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn once(session: &Session, inputs: &[Tensor]) -> anyhow::Result<(Duration, Times)> {
    let start = Instant::now();
    let output = pollster::block_on(session.run(inputs.to_vec(), Demand::default()))?;
    Ok((start.elapsed(), output.stats.times))
}

struct Alone {
    /// Sorted, in microseconds.
    total: Vec<f64>,
    times: Vec<Times>,
}

impl Alone {
    fn part(&self, part: impl Fn(&Times) -> Duration) -> f64 {
        let mut values: Vec<f64> = self.times.iter().map(|t| micros(part(t))).collect();
        values.sort_by(f64::total_cmp);
        quantile(&values, 0.5)
    }
}

fn one_at_a_time(session: &Session, inputs: &[Tensor], time: Duration) -> anyhow::Result<Alone> {
    let end = Instant::now() + time;
    let mut alone = Alone { total: Vec::new(), times: Vec::new() };
    while alone.total.len() < 5 || Instant::now() < end {
        let (total, times) = once(session, inputs)?;
        alone.total.push(micros(total));
        alone.times.push(times);
    }
    alone.total.sort_by(f64::total_cmp);
    Ok(alone)
}

/// Runs with every slot of every lane filled.
fn throughput(
    engine: &Engine,
    session: &Arc<Session>,
    inputs: &[Tensor],
    args: &Args,
    time: Duration,
) -> anyhow::Result<Throughput> {
    let callers = engine.lanes().len() * args.in_flight as usize;
    let (runs, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let busy_before: Vec<Duration> = engine.lanes().iter().map(|l| l.busy()).collect();
    let (start, cpu_before) = (Instant::now(), own_cpu());
    let end = start + time;
    std::thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                while Instant::now() < end && !failed.load(Ordering::Relaxed) {
                    match once(session, inputs) {
                        Ok(_) => runs.fetch_add(1, Ordering::Relaxed),
                        Err(_) => return failed.store(true, Ordering::Relaxed),
                    };
                }
            });
        }
    });
    let (elapsed, cpu) = (start.elapsed(), cpu_before.zip(own_cpu()));
    if failed.load(Ordering::Relaxed) {
        bail!("a run failed while throughput was measured");
    }
    let share = |(lane, before): (&Arc<_>, &Duration)| -> f64 {
        let lane: &crate::engine::device::Lane = lane;
        lane.busy().saturating_sub(*before).as_secs_f64() / elapsed.as_secs_f64()
    };
    let lane_busy = engine.lanes().iter().zip(&busy_before).map(share).collect();
    let rows = inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(1);
    let runs = runs.load(Ordering::Relaxed);
    let rows_per_s = (runs * rows) as f64 / elapsed.as_secs_f64();
    let cpu_us = cpu.filter(|_| runs > 0).map(|(before, after)| 1e6 * (after - before) / runs as f64);
    Ok(Throughput { rows_per_s, cpu_us, lane_busy })
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        super::output::line(&serde_json::to_string(report)?);
        return Ok(());
    }
    let busy: Vec<String> = report.throughput.lane_busy.iter().map(|b| format!("{:.0} %", b * 100.0)).collect();
    let cpu = report.throughput.cpu_us.map_or_else(String::new, |us| format!("; {us:.0} µs of processor time a run"));
    let load: Vec<String> = report.load_ms.iter().map(|(part, ms)| format!("{part} {ms:.0} ms")).collect();
    super::output::line(&format!(
        "{} on {}, batch {}\n\
         one at a time   {:>12.0} µs median, {:.0} to {:.0} µs (p10 to p90), {} runs\n\
         of which        {:>12.0} µs upload, {:.0} µs encode, {:.0} µs submit, {:.0} µs compute, {:.0} µs read-back\n\
         arithmetic      {:>12.3} GFLOP a run, {:.2} GFLOP/s\n\
         first run       {:>12.0} µs\n\
         throughput      {:>12.1} rows/s with {} in flight on each of {} lanes (busy {}{cpu})\n\
         load            {}",
        report.model,
        report.device,
        report.batch,
        report.median_us,
        report.p10_us,
        report.p90_us,
        report.runs,
        report.upload_us,
        report.encode_us,
        report.submit_us,
        report.compute_us,
        report.read_back_us,
        report.gflop,
        report.gflop_per_s,
        report.first_run_us,
        report.throughput.rows_per_s,
        report.in_flight,
        report.lanes,
        busy.join(", "),
        load.join(", "),
    ));
    if let Some(profile) = &report.profile {
        super::output::line(&format!("\n{}", profile.text()));
    }
    Ok(())
}
