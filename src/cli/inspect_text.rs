//! `coracle inspect` for a person.

use std::fmt::Write as _;

use super::inspect::{Port, Report};

/// The report as lines of text, without the last line's end.
pub(super) fn text(report: &Report) -> String {
    let mut text = format!("{}\nplanned for {}\n", report.model, report.device);
    // Writing to a String cannot fail; the results are dropped for that reason.
    let _ = write(&mut text, report);
    text.truncate(text.trim_end().len());
    text
}

fn write(text: &mut String, report: &Report) -> std::fmt::Result {
    for (title, list) in [("inputs", &report.inputs), ("outputs", &report.outputs)] {
        writeln!(text, "\n{title}")?;
        list.iter().try_for_each(|port| writeln!(text, "  {}", line(port)))?;
    }
    let nodes: usize = report.operators.values().sum();
    writeln!(text, "\noperators  {nodes}, {} after folding", report.nodes_after_folding)?;
    let mut operators: Vec<_> = report.operators.iter().collect();
    operators.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
    operators.iter().try_for_each(|(name, count)| writeln!(text, "  {count:>5}  {name}"))?;
    writeln!(text, "\nparameters  {} ({})", report.parameters, bytes(report.parameter_bytes as u64))?;
    writeln!(text, "weights     {}", report.weights)?;

    if let Some(first) = report.batches.first() {
        writeln!(text, "\n  batch      gflop  activations    constants  dispatches")?;
        for b in &report.batches {
            let (activations, constants) = (bytes(b.activation_bytes), bytes(b.constant_bytes));
            writeln!(text, "{:>7} {:>10.3} {activations:>12} {constants:>12} {:>11}", b.batch, b.gflop, b.dispatches)?;
        }
        writeln!(text, "\nfused graph at batch {}  {} nodes", first.batch, first.fused_nodes)?;
        for step in &report.kernels {
            let [x, y, z] = step.groups;
            writeln!(text, "  {:<18} {:>14}  {}", step.kernel, format!("{x}×{y}×{z}"), step.nodes)?;
        }
        let none = if report.host_steps.is_empty() { "  none" } else { "" };
        writeln!(text, "\nhost steps{none}")?;
        report.host_steps.iter().try_for_each(|step| writeln!(text, "  {step}"))?;
        if !report.waits_for.is_empty() {
            writeln!(text, "\nwhat follows is compiled when these are known\n  {}", report.waits_for.join(", "))?;
        }
        let merged = report.not_merged.as_ref().map_or("yes".to_owned(), |reason| format!("no: {reason}"));
        writeln!(text, "\nrequests are merged  {merged}")?;
    }
    if let Some(reason) = &report.not_planned {
        writeln!(text, "\nnot planned: {reason}")?;
    }
    Ok(())
}

fn line(port: &Port) -> String {
    format!("{}: {}", port.name, kind(port))
}

fn kind(port: &Port) -> String {
    let dims = || port.dims.as_ref().map_or("[…]".to_owned(), |dims| format!("[{}]", dims.join(",")));
    match &port.element {
        Some(element) => format!("{} of {}", port.dtype, kind(element)),
        None => format!("{}{}", port.dtype, dims()),
    }
}

fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_fitting_units() {
        assert_eq!([0, 1023, 1536, 3 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]);
    }
}
