//! `coracle predict`: one request to a running server.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;

use super::output::line;
use super::tensors;
use crate::api::{Client, ClientReply};
use crate::tensor::{Signature, Tensor};

/// Elements of an output that are shown.
const SHOWN: usize = 12;

/// Sends one Predict request and prints the answer.
#[derive(Debug, ClapArgs)]
#[command(after_help = "An input is a file (.npy, .json, .pb or an image) or JSON:
  coracle predict localhost:8500 digits --input image=@digits.npy
  coracle predict localhost:8500 half_plus_two --input 'x=[1.0, 2.0, 5.0]'
  coracle predict localhost:8500 resnet50 --input image=@cat.png --top-k 5 --labels imagenet.txt")]
pub struct Args {
    /// The server's gRPC address.
    #[arg(value_name = "HOST:PORT")]
    pub address: String,
    /// The served model's name.
    pub model: String,
    /// One input: NAME=@FILE or NAME=JSON. Repeatable.
    #[arg(long = "input", value_name = "NAME=VALUE", required = true)]
    pub inputs: Vec<String>,
    /// The signature to call.
    #[arg(long, default_value = "serving_default")]
    pub signature: String,
    /// Ask for this output only. Repeatable.
    #[arg(long = "output", value_name = "NAME")]
    pub outputs: Vec<String>,
    /// Show the largest K entries of each row instead of the first ones.
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// A text file with one label a line, for --top-k.
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Write each output to FOLDER/NAME.npy.
    #[arg(long, value_name = "FOLDER")]
    pub save: Option<PathBuf>,
    /// Seconds to wait.
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    pub timeout_s: f64,
    /// Print one JSON object: each output nested as its shape says.
    #[arg(long)]
    pub json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// A wrong input, or the server's answer.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now();
    let (reply, took) = runtime.block_on(call(args))?;
    if args.json {
        line(&json(&reply)?);
    } else {
        let labels = args.labels.as_deref().map(read_labels).transpose()?.unwrap_or_default();
        let version = reply.version.map(|v| format!(" version {v}")).unwrap_or_default();
        let millis = |d: Duration| d.as_secs_f64() * 1e3;
        line(&format!(
            "{}{version}: {:.2} ms, {:.2} ms with connecting",
            args.model,
            millis(took),
            millis(start.elapsed())
        ));
        for (name, tensor) in &reply.outputs {
            line(&describe(name, tensor, args.top_k, &labels)?);
        }
    }
    if let Some(folder) = &args.save {
        for (name, tensor) in &reply.outputs {
            tensors::write(&folder.join(format!("{}.npy", name.replace('/', "_"))), name, tensor)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn call(args: &Args) -> anyhow::Result<(ClientReply, Duration)> {
    let client = Client::connect(&args.address, Some(Duration::try_from_secs_f64(args.timeout_s)?)).await?;
    let signature = client.signature(&args.model, &args.signature).await?;
    let inputs = inputs(&args.inputs, &signature)?;
    let start = Instant::now();
    let reply = client.predict(&args.model, &args.signature, &inputs, &args.outputs).await?;
    Ok((reply, start.elapsed()))
}

fn inputs(given: &[String], signature: &Signature) -> anyhow::Result<Vec<(String, Tensor)>> {
    let read = |text: &String| {
        // Names may hold '=' only before the first one that a value follows: the known names decide.
        let known = signature
            .inputs
            .iter()
            .find(|s| text.strip_prefix(s.name.as_str()).is_some_and(|rest| rest.starts_with('=')));
        let Some(spec) = known else {
            let names: Vec<String> = signature.inputs.iter().map(ToString::to_string).collect();
            bail!("{text:?} names no input; the model takes {}", names.join(", "));
        };
        let value = &text[spec.name.len() + 1..];
        let tensor = tensors::read_input(value, spec).with_context(|| format!("input {:?}", spec.name))?;
        Ok((spec.name.clone(), tensor))
    };
    given.iter().map(read).collect()
}

fn read_labels(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn json(reply: &ClientReply) -> anyhow::Result<String> {
    let outputs = reply.outputs.iter().map(|(name, tensor)| Ok((name.clone(), tensors::to_json(tensor)?)));
    Ok(serde_json::to_string(&outputs.collect::<anyhow::Result<serde_json::Map<_, _>>>()?)?)
}

fn describe(name: &str, tensor: &Tensor, top_k: Option<usize>, labels: &[String]) -> anyhow::Result<String> {
    let mut text = format!("{name}: {}{}", tensor.dtype(), tensor.shape());
    if !tensor.strings().is_empty() {
        let shown = tensor.strings().iter().take(SHOWN).map(|s| String::from_utf8_lossy(s).into_owned());
        let _ = write!(text, " {:?}", shown.collect::<Vec<_>>());
        return Ok(text);
    }
    let values = tensor.to_f64s()?;
    let row = tensor.shape().last().copied().unwrap_or(1).max(1);
    match top_k {
        None => {
            let shown: Vec<String> = values.iter().take(SHOWN).map(f64::to_string).collect();
            let more = if values.len() > SHOWN { ", …" } else { "" };
            let _ = write!(text, " [{}{more}]", shown.join(", "));
        }
        Some(k) => {
            for (number, row) in values.chunks(row).enumerate() {
                let mut order: Vec<usize> = (0..row.len()).collect();
                order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
                let entries = order.iter().take(k).map(|i| {
                    let label = labels.get(*i).map(|l| format!(" {l}")).unwrap_or_default();
                    format!("{i}{label} {:.4}", row[*i])
                });
                let _ = write!(text, "\n  row {number}: {}", entries.collect::<Vec<_>>().join(", "));
            }
        }
    }
    Ok(text)
}
