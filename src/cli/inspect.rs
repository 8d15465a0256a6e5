//! `coracle inspect`: what a model is and what it will become here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args as ClapArgs;
use serde::Serialize;

use super::device_args::DeviceArgs;
use super::devices;
use super::inspect_text;
use super::output;
use super::shapes::{declared_shape, pairs, parse_shape};
use crate::engine::compile::{compile, optimise, prove_rows, rebatch};
use crate::engine::device::{Adapter, Mask};
use crate::engine::ir::{Choices, Family, Given, Graph, Profile, Program};
use crate::formats::onnx;
use crate::model::Settings;
use crate::tensor::{Dim, Shape, Signature, Spec};

/// Batch sizes planned unless the command line says which.
const BATCHES: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Shows a model's inputs, outputs, operators and parameters, and what it compiles to: arithmetic, memory for each batch
/// size, the fused kernels in order, and what runs on the host. Nothing is run and no memory is taken on the device.
///
/// Operators that are not supported are all listed at once.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  coracle inspect models/digits
  coracle inspect bert.onnx --shape input_ids=1,128 --shape attention_mask=1,128
  coracle inspect resnet50.onnx --batch 1,8 --json | jq .batches")]
pub struct Args {
    /// An .onnx file, a folder with model.onnx or BASE/VERSION.
    pub model: PathBuf,
    /// Batch sizes to plan, for models whose inputs leave axis 0 open [default: powers of two up to 64].
    #[arg(long, value_delimiter = ',', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Vec<u32>,
    /// Whole shape of one input, for extents that the model leaves open: NAME=1,128. Repeatable.
    #[arg(long = "shape", value_name = "NAME=D0,D1,…")]
    pub shapes: Vec<String>,
    /// Print one JSON line.
    #[arg(long)]
    pub json: bool,
    /// Which adapter, and what to do without.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// All that is shown.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    /// What it is compiled for: an adapter, or `none`.
    pub(super) device: String,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    /// How often weights are on it where there are several lanes.
    pub(super) weights: String,
    /// Nodes by operator, before anything is folded.
    pub(super) operators: BTreeMap<String, usize>,
    pub(super) parameters: usize,
    pub(super) parameter_bytes: usize,
    /// Nodes left after folding, before fusion.
    pub(super) nodes_after_folding: usize,
    pub(super) batches: Vec<Batch>,
    /// Why there are no batches, if so.
    pub(super) not_planned: Option<String>,
    /// The kernels of the first batch in order.
    pub(super) kernels: Vec<Step>,
    /// `Operator:node:reason` of what runs on the host.
    pub(super) host_steps: Vec<String>,
    /// Values that decide how the graph goes on: what follows them is compiled when they are there.
    pub(super) waits_for: Vec<String>,
    /// Why requests are never merged; `None` when they may be, or when that depends on their shapes.
    pub(super) not_merged: Option<String>,
}

/// An input or output.
#[derive(Debug, Serialize)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) dtype: &'static str,
    /// Extents, names, or `?`; `None` when the rank is unknown.
    pub(super) dims: Option<Vec<String>>,
    /// What a sequence or an optional value holds, without a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) element: Option<Box<Port>>,
}

/// What one batch size takes.
#[derive(Debug, Serialize)]
pub(super) struct Batch {
    pub(super) batch: u32,
    pub(super) gflop: f64,
    pub(super) activation_bytes: u64,
    pub(super) constant_bytes: u64,
    pub(super) dispatches: usize,
    pub(super) segments: usize,
    pub(super) fused_nodes: usize,
}

/// One dispatch.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    /// The nodes that it computes.
    pub(super) nodes: String,
    pub(super) kernel: &'static str,
    pub(super) groups: [u32; 3],
}

/// Runs the subcommand.
///
/// # Errors
/// What is wrong with the model or the options.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let file = onnx::locate(&args.model)?;
    let graph = onnx::import(&file)?;
    let report = report(args, &file, graph)?;
    if args.json {
        output::line(&serde_json::to_string(&report)?);
    } else {
        output::line(&inspect_text::text(&report));
    }
    Ok(ExitCode::SUCCESS)
}

fn report(args: &Args, file: &Path, graph: Graph) -> anyhow::Result<Report> {
    let (device, weights, mut profile) = target(&args.device)?;
    let settings = Settings::beside(file)?;
    let graph = if settings.batch_axis.is_some() { rebatch(graph)? } else { graph };
    profile.apply(settings.precision.map_or(args.device.precision, Into::into));
    let constants = || graph.values.iter().filter_map(|v| v.constant.as_ref());
    let mut report = Report {
        model: file.display().to_string(),
        device,
        weights,
        inputs: graph.signature.inputs.iter().map(port).collect(),
        outputs: graph.signature.outputs.iter().map(port).collect(),
        operators: BTreeMap::new(),
        parameters: constants().map(|t| t.shape().elements()).sum(),
        parameter_bytes: constants().map(|t| t.bytes().len()).sum(),
        nodes_after_folding: 0,
        batches: Vec::new(),
        not_planned: None,
        kernels: Vec::new(),
        host_steps: Vec::new(),
        waits_for: Vec::new(),
        not_merged: None,
    };
    for node in &graph.nodes {
        *report.operators.entry(node.op.name().to_owned()).or_default() += 1;
    }
    let graph = optimise(graph, &profile)?;
    report.nodes_after_folding = graph.nodes.len();
    for batch in batches(args, &graph.signature)? {
        let shapes = match shapes(args, &graph.signature, batch) {
            Ok(shapes) => shapes,
            Err(error) => {
                report.not_planned = Some(format!("{error:#}"));
                break;
            }
        };
        let given: Vec<_> = shapes.iter().map(Given::from).collect();
        let program = compile(&graph, &given, &profile, &Choices::new()).with_context(|| format!("batch {batch}"))?;
        if report.batches.is_empty() {
            report.host_steps = program.host_steps();
            report.waits_for = waits_for(&program);
            report.not_merged = prove_rows(&graph, &shapes, &profile).err();
            report.kernels = steps(&program);
        }
        report.batches.push(planned(batch, &program));
    }
    Ok(report)
}

fn waits_for(program: &Program) -> Vec<String> {
    let Some(rest) = &program.rest else { return Vec::new() };
    let deciding = rest.graph.inputs.iter().zip(&rest.inputs).filter(|(_, (_, decides))| *decides);
    deciding.map(|(value, _)| rest.graph.values[value.0].name.clone()).collect()
}

fn port(spec: &Spec) -> Port {
    Port {
        name: spec.name.clone(),
        dtype: spec.dtype.name(),
        dims: spec.dims.as_ref().map(|dims| dims.iter().map(Dim::to_string).collect()),
        element: spec.element.as_deref().map(port).map(Box::new),
    }
}

fn planned(batch: u32, program: &Program) -> Batch {
    Batch {
        batch,
        gflop: program.flops / 1e9,
        activation_bytes: program.pool_bytes().iter().sum(),
        constant_bytes: program.constant_bytes(),
        dispatches: program.segments.iter().map(|s| s.dispatches.len()).sum(),
        segments: program.segments.len(),
        fused_nodes: program.nodes,
    }
}

fn steps(program: &Program) -> Vec<Step> {
    let dispatches = program.segments.iter().flat_map(|s| &s.dispatches);
    dispatches.map(|d| Step { nodes: d.label.to_string(), kernel: d.kernel.name, groups: d.groups }).collect()
}

/// The adapter that is asked for, how often it has weights and what it can do; without any adapter, a plain software one.
fn target(device: &DeviceArgs) -> anyhow::Result<(String, String, Profile)> {
    let mask = Mask::new(&device.without, device.family.as_deref())?;
    match Adapter::pick(&device.device) {
        Ok(adapter) => {
            let weights = devices::weights(&adapter.describe());
            Ok((adapter.name().to_owned(), weights, adapter.profile(&mask)))
        }
        Err(error) if device.device == "auto" => {
            tracing::warn!(%error, "planning for a plain software adapter");
            Ok(("none".to_owned(), "none".to_owned(), Profile::plain(Family::Software)))
        }
        Err(error) => Err(error.into()),
    }
}

/// The batch sizes to plan: one where axis 0 is fixed or said by `--shape`.
fn batches(args: &Args, signature: &Signature) -> anyhow::Result<Vec<u32>> {
    let given = pairs(&args.shapes)?;
    for name in given.keys() {
        ensure!(signature.inputs.iter().any(|s| s.name == *name), "the model has no input {name:?}");
    }
    let open = |dims: &Vec<Dim>| dims.first().is_some_and(|d| d.fixed().is_none());
    let open =
        signature.inputs.iter().any(|s| !given.contains_key(s.name.as_str()) && s.dims.as_ref().is_some_and(open));
    Ok(match (open, args.batch.is_empty()) {
        (true, true) => BATCHES.to_vec(),
        (true, false) => args.batch.clone(),
        (false, _) => vec![1],
    })
}

fn shapes(args: &Args, signature: &Signature, batch: u32) -> anyhow::Result<Vec<Shape>> {
    let given = pairs(&args.shapes)?;
    let shape = |spec: &Spec| match given.get(spec.name.as_str()) {
        Some(text) => parse_shape(text),
        None => declared_shape(spec, batch as usize),
    };
    signature.inputs.iter().map(shape).collect()
}
