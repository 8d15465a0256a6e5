//! `coracle verify`: models against the outputs that they should give.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Args as ClapArgs;
use serde::Serialize;

use super::cases::{self, Case};
use super::device_args::DeviceArgs;
use super::expectations::Expectations;
use super::output;
use super::verify_case::{self, Judge, Outcome, Runtime};

/// Runs models on their test data and compares what they give with what they should.
///
/// A case is a folder with model.onnx (or saved_model/) and test_data_set_N/{input,output}_I.pb, the layout of ONNX's own
/// test data. Floats must be within --rtol and --atol, else within what index.json beside the case says, else within
/// 10⁻⁴ of the expected output's range or ten times the noise_max_abs of the case's cases.json, whichever is larger; models that
/// quantise or hold 16-bit floats inside also pass by a cosine of 0.999 with a mean error of 1/255 of the range. Entries of the
/// same score, up to rounding, may stand in any order in outputs that list detections.
/// Exits with 0 if all passed or, with --expect, gave what was recorded; 1 if any did not; 2 if no case was found.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  coracle verify models/digits
  coracle verify node --json | jq -r 'select(.status != \"pass\") | .model'
  coracle verify zoo --device software --without subgroups,f16")]
pub struct Args {
    /// Case folders, or folders that are searched for them.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Print one JSON line for every data set, and nothing else on standard output.
    #[arg(long)]
    pub json: bool,
    /// Seconds that one data set may take, loading the model included.
    #[arg(long, default_value_t = 120.0, value_name = "SECONDS")]
    pub timeout_s: f64,
    /// Difference that a float may have in units of the expected one.
    #[arg(long)]
    pub rtol: Option<f64>,
    /// Difference that a float may have.
    #[arg(long)]
    pub atol: Option<f64>,
    /// A file of recorded results, lines of case, tab and result (device, host, fail, unsupported, error or timeout): every
    /// difference, for better or worse, is told and counts as a failure; nothing else does.
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Evaluate on the host, operator by operator, instead of on a device: slow, and what devices are held against.
    #[arg(long)]
    pub host: bool,
    /// Which adapter, and what to do without.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// One line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    model: String,
    data_set: u64,
    status: &'static str,
    max_abs: Option<f64>,
    max_rel_to_range: Option<f64>,
    message: &'a str,
    host_steps: &'a [String],
    device: &'a str,
}

/// Runs the subcommand.
///
/// # Errors
/// When an option makes no sense; what goes wrong in a case is its status.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    args.device.claim_driver_cache();
    let timeout = Duration::try_from_secs_f64(args.timeout_s);
    ensure!(timeout.is_ok() && args.timeout_s > 0.0, "--timeout-s must be positive");
    for path in args.paths.iter().filter(|p| !p.exists()) {
        tracing::error!(path = %path.display(), "there is no such folder");
    }
    let cases = cases::find(&args.paths);
    if cases.is_empty() {
        tracing::error!("no case was found: no folder with a model and test_data_set_N");
        return Ok(ExitCode::from(2));
    }
    let mut expected = args.expect.as_deref().map(Expectations::read).transpose()?;
    let runtime = Runtime::start(args.host, &args.device);
    let judge = Judge { rtol: args.rtol, atol: args.atol };
    let mut counts = Counts::default();
    for case in &cases {
        verify_case::run(case, &runtime, judge, timeout.clone()?, &mut |data_set, outcome| {
            counts.add(outcome.status.name());
            if let Some(expected) = &mut expected {
                expected.compare(&case.folder, outcome);
            }
            print(args.json, case, data_set, outcome, runtime.device());
        });
    }
    if !args.json {
        output::line(&format!("{}; {} different kernels", counts.summary(), runtime.kernels()));
    }
    let all_there = args.paths.iter().all(|p| p.exists());
    let as_expected = match expected.map(Expectations::finish) {
        Some(differences) => {
            differences.iter().for_each(|d| tracing::error!("{d}"));
            differences.is_empty()
        }
        None => counts.passed_all(),
    };
    Ok(if as_expected && all_there { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(json: bool, case: &Case, data_set: u64, outcome: &Outcome, device: &str) {
    let line = Line {
        model: case.folder.display().to_string(),
        data_set,
        status: outcome.status.name(),
        max_abs: outcome.max_abs,
        max_rel_to_range: outcome.max_rel_to_range,
        message: &outcome.message,
        host_steps: &outcome.host_steps,
        device,
    };
    if json {
        // Strings, integers and finite floats always have a JSON form.
        output::line(&serde_json::to_string(&line).expect("a line is plain data"));
        return;
    }
    let apart = match (line.max_abs, line.max_rel_to_range) {
        (Some(abs), Some(rel)) => format!("  max {abs:.3e} ({rel:.1e} of the range)"),
        _ => String::new(),
    };
    let message = if line.message.is_empty() { String::new() } else { format!("  {}", line.message) };
    let hosted = match line.host_steps.len() {
        0 => String::new(),
        n => format!("  {n} host steps"),
    };
    output::line(&format!("{:<11} {} #{data_set}{apart}{hosted}{message}", line.status, line.model));
}

/// Data sets by status, in order of first appearance.
#[derive(Debug, Default)]
struct Counts(Vec<(&'static str, usize)>);

impl Counts {
    fn add(&mut self, status: &'static str) {
        match self.0.iter_mut().find(|(s, _)| *s == status) {
            Some((_, n)) => *n += 1,
            None => self.0.push((status, 1)),
        }
    }

    fn passed_all(&self) -> bool {
        self.0.iter().all(|(status, _)| *status == "pass")
    }

    fn summary(&self) -> String {
        let parts: Vec<_> = self.0.iter().map(|(status, n)| format!("{n} {status}")).collect();
        parts.join(", ")
    }
}
