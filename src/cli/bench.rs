//! `coracle bench`: how fast a model runs, in process or through a server, and what the adapter could do.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::bench_local;
use super::bench_rate;
use super::bench_server;
use crate::engine::LaneCount;

/// Times a model: `coracle bench model.onnx` runs it in this process, `coracle bench NAME --server HOST:PORT` drives a
/// running server, `coracle bench --ceilings` measures what the adapter could do at best.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  coracle bench models/digits --batch 8
  coracle bench bert.onnx --shape input_ids=1,128 --shape attention_mask=1,128 --json
  coracle bench models/digits --lanes 2 --in-flight 4 --batch 1
  coracle bench resnet50.onnx --profile --trace run.json
  coracle bench digits --server localhost:8500 --concurrency 64 --seconds 10
  coracle bench digits --server localhost:8500 --rate 500 --seconds 10")]
pub struct Args {
    /// An .onnx file, a folder with model.onnx or BASE/VERSION; with --server, the served model's name.
    #[arg(required_unless_present = "ceilings")]
    pub model: Option<String>,
    /// Rows: the extent of axis 0 of every input whose batch is not fixed. Rows of a given input are repeated or cut;
    /// without it as many as the inputs have, or 1.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// Whole shape of one input, for extents that the model leaves open: NAME=1,128. Repeatable.
    #[arg(long = "shape", value_name = "NAME=D0,D1,…")]
    pub shapes: Vec<String>,
    /// Contents of one input: NAME=@file.npy, .json, .pb or an image. Repeatable. Without it test_data_set_0 beside the
    /// model, else random values (integers 0 or 1).
    #[arg(long = "input", value_name = "NAME=@FILE")]
    pub inputs: Vec<String>,
    /// Seconds of measuring.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Queues on the adapter, or auto: as many as a measurement finds to help.
    #[arg(long, default_value = "1", value_name = "N")]
    pub lanes: LaneCount,
    /// Runs in flight on each lane while throughput is measured.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub in_flight: u32,
    /// Which adapter, and what to do without.
    #[command(flatten)]
    pub device: super::device_args::DeviceArgs,
    /// Time every dispatch too: by kernel and by node, with the share of the adapter's ceilings, which takes some seconds more.
    #[arg(long)]
    pub profile: bool,
    /// Write a timed run as a trace for Perfetto (ui.perfetto.dev) or Chrome.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Measure the adapter's arithmetic and memory ceilings instead of a model.
    #[arg(long)]
    pub ceilings: bool,
    /// Drive the server at HOST:PORT instead of running in this process.
    #[arg(long, value_name = "HOST:PORT")]
    pub server: Option<String>,
    /// Requests in flight against the server.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub concurrency: u32,
    /// Requests a second against the server, at random moments, whatever becomes of those before: an open loop.
    #[arg(long, value_name = "N", requires = "server")]
    pub rate: Option<f64>,
    /// Print one JSON line.
    #[arg(long)]
    pub json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// What stopped the measurement.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    args.device.claim_driver_cache();
    match (&args.model, &args.server) {
        _ if args.ceilings => bench_local::ceilings(args),
        (Some(model), Some(server)) => match args.rate {
            Some(rate) => bench_rate::run(args, model, server, rate),
            None => bench_server::run(args, model, server),
        },
        (Some(model), None) => bench_local::run(args, &PathBuf::from(model)),
        (None, _) => anyhow::bail!("name a model, or ask for --ceilings"),
    }
}

/// The `q`-quantile of sorted values (nearest rank).
pub(super) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let values = [1.0, 2.0, 3.0, 4.0];
        assert_eq!([0.0, 0.1, 0.5, 0.9, 1.0].map(|q| quantile(&values, q)), [1.0, 1.0, 2.0, 4.0, 4.0]);
    }
}
