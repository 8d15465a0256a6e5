//! `coracle bench --profile` and `--trace`: where the device's time goes, kernel by kernel.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::Profiled;
use crate::engine::device::{Ceilings, Times, replace};

/// Nodes that the printed table shows; `--json` has them all.
const NODES_SHOWN: usize = 40;
/// Characters of a node's name that are shown.
const NAME_SHOWN: usize = 48;

/// A kernel or a node: times in microseconds, rates as they were reached, shares of what the adapter was measured to do.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    name: String,
    /// The shader, of a node's the one that takes longest.
    kernel: &'static str,
    dispatches: usize,
    time_us: f64,
    /// Of the time of all dispatches.
    share: f64,
    gflop_per_s: f64,
    gb_per_s: f64,
    /// Of the arithmetic or the memory ceiling, whichever is nearer.
    ceiling_share: f64,
}

/// All that is shown of a profile.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    total_us: f64,
    ceilings: Ceilings,
    kernels: Vec<Row>,
    nodes: Vec<Row>,
}

impl Report {
    /// Sums up `dispatches`.
    pub(super) fn new(dispatches: &[Profiled], ceilings: Ceilings) -> Self {
        let total_us: f64 = dispatches.iter().map(micros).sum();
        let rows = |name: &dyn Fn(&Profiled) -> String| {
            let mut groups: BTreeMap<String, Vec<&Profiled>> = BTreeMap::new();
            dispatches.iter().for_each(|d| groups.entry(name(d)).or_default().push(d));
            let mut rows: Vec<Row> = groups.into_iter().map(|(name, of)| row(name, &of, total_us, &ceilings)).collect();
            rows.sort_by(|a, b| b.time_us.total_cmp(&a.time_us));
            rows
        };
        let (kernels, nodes) = (rows(&|d| d.kernel.to_owned()), rows(&|d| d.node.to_string()));
        Self { total_us, kernels, nodes, ceilings }
    }

    /// Tables for people.
    pub(super) fn text(&self) -> String {
        let head = format!(
            "{:>11} {:>7} {:>5} {:>10} {:>8} {:>8}  ",
            "time µs", "share", "runs", "GFLOP/s", "GB/s", "ceiling"
        );
        let line = |row: &Row, name: &str| {
            format!(
                "{:>11.1} {:>6.1}% {:>5} {:>10.1} {:>8.2} {:>7.0}%  {name}\n",
                row.time_us,
                row.share * 100.0,
                row.dispatches,
                row.gflop_per_s,
                row.gb_per_s,
                row.ceiling_share * 100.0
            )
        };
        let mut text = format!(
            "device time     {:>12.0} µs in all dispatches; ceilings {:.1} GFLOP/s, {:.1} GB/s\n\n{head}kernel\n",
            self.total_us, self.ceilings.f32_gflop_per_s, self.ceilings.copy_gb_per_s
        );
        self.kernels.iter().for_each(|row| text.push_str(&line(row, row.kernel)));
        text.push_str(&format!("\n{head}node\n"));
        for row in self.nodes.iter().take(NODES_SHOWN) {
            let name: String = row.name.chars().take(NAME_SHOWN).collect();
            text.push_str(&line(row, &format!("{name} ({})", row.kernel)));
        }
        let more = self.nodes.len().saturating_sub(NODES_SHOWN);
        if more > 0 {
            text.push_str(&format!("and {more} more nodes: --json shows all\n"));
        }
        text.trim_end().to_owned()
    }
}

fn micros(dispatch: &Profiled) -> f64 {
    dispatch.time.as_secs_f64() * 1e6
}

fn row(name: String, of: &[&Profiled], total_us: f64, ceilings: &Ceilings) -> Row {
    let time_us: f64 = of.iter().map(|d| micros(d)).sum();
    // 10⁹ a second are 10³ a microsecond.
    let rate = |amount: f64| if time_us > 0.0 { amount / time_us / 1e3 } else { 0.0 };
    let gflop_per_s = rate(of.iter().map(|d| d.flops).sum());
    let gb_per_s = rate(of.iter().map(|d| d.bytes as f64).sum());
    Row {
        name,
        kernel: of.iter().max_by_key(|d| d.time).map_or("", |d| d.kernel),
        dispatches: of.len(),
        time_us,
        share: if total_us > 0.0 { time_us / total_us } else { 0.0 },
        gflop_per_s,
        gb_per_s,
        ceiling_share: (gflop_per_s / ceilings.f32_gflop_per_s).max(gb_per_s / ceilings.copy_gb_per_s),
    }
}

/// Writes one run as a trace that Perfetto and Chrome show: the host's part of it, and each lane's dispatches behind one another.
///
/// # Errors
/// Those of writing the file.
pub(super) fn write_trace(path: &Path, run: &Times, lanes: &[Vec<Profiled>]) -> anyhow::Result<()> {
    let text = serde_json::to_string(&json!({ "displayTimeUnit": "ms", "traceEvents": events(run, lanes) }))?;
    replace(path, text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}

fn events(run: &Times, lanes: &[Vec<Profiled>]) -> Vec<Value> {
    let slice = |name: &str, thread: usize, start_us: f64, time_us: f64, details: Value| json!({ "name": name, "ph": "X", "pid": 1, "tid": thread, "ts": start_us, "dur": time_us, "args": details });
    let title = |thread: usize, name: String| json!({ "name": "thread_name", "ph": "M", "pid": 1, "tid": thread, "args": { "name": name } });
    let mut events = vec![title(0, "host".into())];
    let mut now_us = 0.0;
    let mut device_us = 0.0;
    for (name, time) in [
        ("wait", run.wait),
        ("upload", run.upload),
        ("submit", run.submit),
        ("device", run.device),
        ("read back", run.read_back),
    ] {
        if name == "device" {
            device_us = now_us;
        }
        let time_us = time.as_secs_f64() * 1e6;
        events.push(slice(name, 0, now_us, time_us, json!({})));
        now_us += time_us;
    }
    for (lane, dispatches) in lanes.iter().enumerate() {
        events.push(title(lane + 1, format!("lane {lane}")));
        let mut now_us = device_us;
        for dispatch in dispatches {
            let details = json!({
                "node": &*dispatch.node, "groups": dispatch.groups, "gflop": dispatch.flops / 1e9, "bytes": dispatch.bytes,
            });
            events.push(slice(dispatch.kernel, lane + 1, now_us, micros(dispatch), details));
            now_us += micros(dispatch);
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn dispatch(node: &str, kernel: &'static str, micros: u64, flops: f64, bytes: u64) -> Profiled {
        Profiled { node: node.into(), kernel, groups: [1; 3], time: Duration::from_micros(micros), flops, bytes }
    }

    #[test]
    fn rates_are_those_of_all_dispatches_together() {
        let ceilings = Ceilings {
            device: "any".into(),
            f32_gflop_per_s: 100.0,
            f16_gflop_per_s: None,
            int8_gop_per_s: 1.0,
            copy_gb_per_s: 10.0,
        };
        let dispatches = [
            dispatch("a", "product", 10, 5e5, 1000),
            dispatch("b", "product", 30, 1.5e6, 1000),
            dispatch("c", "map", 40, 0.0, 200_000),
        ];
        let report = Report::new(&dispatches, ceilings);
        let product = report.kernels.iter().find(|row| row.name == "product").expect("a row");
        assert_eq!((product.dispatches, product.gflop_per_s, product.share), (2, 50.0, 0.5));
        assert!((product.ceiling_share - 0.5).abs() < 1e-9);
        let map = report.kernels.iter().find(|row| row.name == "map").expect("a row");
        assert!((map.gb_per_s - 5.0).abs() < 1e-9 && (map.ceiling_share - 0.5).abs() < 1e-9);
        assert_eq!(report.nodes.len(), 3);
        assert!(report.text().contains("product"));
    }

    #[test]
    fn slices_follow_one_another() {
        let lanes = [vec![dispatch("a", "product", 10, 0.0, 0), dispatch("b", "map", 5, 0.0, 0)]];
        let run = Times { upload: Duration::from_micros(3), ..Times::default() };
        let events = events(&run, &lanes);
        let map = events.iter().find(|event| event["name"] == "map").expect("a slice");
        assert_eq!((map["ts"].as_f64(), map["dur"].as_f64()), (Some(13.0), Some(5.0)));
    }
}
