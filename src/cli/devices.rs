//! `coracle devices`: every adapter, and what matters of it.

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::output;
use crate::engine::device::{Adapter, Description};

/// Lists the adapters of this machine, the one that `--device auto` takes first.
///
/// Adapters are ranked discrete, integrated, virtual, software. Every other command takes an index or a part of a name
/// from this list as --device, `serve` several of them. Exits with 1 if there is none.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  coracle devices
  coracle devices --json | jq -r '.[] | select(.f16) | .name'")]
pub struct Args {
    /// Print one JSON array, one object an adapter.
    #[arg(long)]
    pub json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// `NOT_FOUND`, saying what to install, when there is no adapter.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let found: Vec<Description> = Adapter::all().iter().map(Adapter::describe).collect();
    if args.json {
        output::line(&serde_json::to_string(&found)?);
        return Ok(if found.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    if found.is_empty() {
        // Picking says what is missing and how to install it.
        Adapter::pick("auto")?;
    }
    let texts: Vec<_> = found.iter().map(text).collect();
    output::line(texts.join("\n").trim_end());
    Ok(ExitCode::SUCCESS)
}

fn text(adapter: &Description) -> String {
    let Description { limits, .. } = adapter;
    let mut text = format!("{}  {}\n", adapter.index, adapter.name);
    let mut row = |name: &str, value: String| text.push_str(&format!("   {name:<22}{value}\n"));
    row("backend", format!("{}, {}, {} kernels", adapter.backend, adapter.kind, adapter.family));
    row("driver", format!("{} {}", adapter.driver, adapter.driver_info).trim().to_owned());
    let bus = adapter.pci_bus.as_ref().map_or_else(String::new, |bus| format!(" at {bus}"));
    row("pci id", format!("{}{bus}", adapter.pci_id));
    if let Some(bytes) = adapter.memory_bytes {
        row("memory", size(bytes));
    }
    row("f16, int64, f64", [adapter.f16, adapter.int64, adapter.f64].map(yes).join(", "));
    row("subgroups", adapter.subgroup_sizes.map_or_else(|| "no".into(), subgroups));
    let matrices = adapter.cooperative_matrices.join(", ");
    row("cooperative matrices", if matrices.is_empty() { "no".into() } else { matrices });
    row("timestamps", yes(adapter.timestamps));
    row("queues", format!("{} a device; each lane opens a device of its own", adapter.queues_per_device));
    row("weights", weights(adapter));
    row("tensor, allocation", format!("at most {}, {}", size(limits.max_binding_bytes), size(limits.max_buffer_bytes)));
    row("buffers a kernel", limits.max_storage_buffers.to_string());
    row("workgroup", format!("{} invocations, {}", limits.max_invocations, size(limits.max_workgroup_bytes.into())));
    row("workgroups an axis", limits.max_workgroups.to_string());
    text
}

/// How often they are on the device where there are several lanes.
pub(super) fn weights(adapter: &Description) -> String {
    match (adapter.shared_weights, adapter.shares_unasked) {
        (None, _) => "a copy on each lane".to_owned(),
        (Some(way), true) => format!("once for all lanes: {way}"),
        (Some(way), false) => format!("a copy on each lane; with --share-weights=on once, untried: {way}"),
    }
}

fn yes(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}

fn subgroups([least, most]: [u32; 2]) -> String {
    if least == most { format!("of {least}") } else { format!("of {least} to {most}") }
}

/// Bytes in the largest binary unit that leaves at least 1.
fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => {
            let value = format!("{:.1}", bytes as f64 / (1u64 << shift) as f64);
            format!("{} {unit}", value.trim_end_matches(".0"))
        }
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_in_the_largest_unit() {
        assert_eq!(size(512), "512 bytes");
        assert_eq!(size(32 << 10), "32 KiB");
        assert_eq!(size(3 << 29), "1.5 GiB");
    }

    #[test]
    fn every_adapter_is_shown_with_its_name_and_in_json() {
        for adapter in Adapter::all() {
            let description = adapter.describe();
            assert!(text(&description).starts_with(&format!("{}  {}\n", adapter.index(), adapter.name())));
            assert!(weights(&description).starts_with(if description.shares_unasked { "once" } else { "a copy" }));
            let json = serde_json::to_value(&description).expect("plain data");
            assert_eq!(json["limits"]["max_invocations"], description.limits.max_invocations);
        }
    }
}
