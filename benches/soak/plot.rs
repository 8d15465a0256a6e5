//! The samples as a chart: five panels over time, with a mark where trouble began.

use std::fmt::Write as _;
use std::time::Duration;

use super::samples::Sample;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 90.0;
const LEFT: f64 = 110.0;
const GAP: f64 = 30.0;

type Panel = (&'static str, fn(&Sample) -> f64);

const PANELS: [Panel; 5] = [
    ("answers a second", |s| s.answered as f64),
    ("p99, ms", |s| s.p99_ms),
    ("resident, MiB", |s| s.resident_kib as f64 / 1024.0),
    ("heap in use, MiB", |s| s.heap_bytes / 1_048_576.0),
    ("device, MiB", |s| s.device_bytes / 1_048_576.0),
];

/// SVG text, readable on light and dark pages.
pub(crate) fn svg(samples: &[Sample], troubles: &[(Duration, &'static str)]) -> String {
    let end = samples.last().map_or(1.0, |s| s.at.as_secs_f64()).max(1.0);
    let x = |at: Duration| LEFT + at.as_secs_f64() / end * WIDTH;
    let (width, height) = (LEFT + WIDTH + 20.0, GAP + PANELS.len() as f64 * (HEIGHT + GAP));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\
         <style>text{{font:12px sans-serif;fill:#888}}</style>"
    );
    // Writing to a string cannot fail.
    for (index, (title, value)) in PANELS.iter().enumerate() {
        let top = GAP + index as f64 * (HEIGHT + GAP);
        let largest = samples.iter().map(value).fold(0.0, f64::max).max(1e-9);
        let _ = write!(text, "<text x=\"4\" y=\"{}\">{title}</text>", top + 12.0);
        let _ = write!(text, "<text x=\"4\" y=\"{}\">up to {largest:.1}</text>", top + 28.0);
        for (at, kind) in troubles {
            let (x, bottom) = (x(*at), top + HEIGHT);
            let _ = write!(
                text,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\" stroke=\"#d1495b\" opacity=\"0.4\">\
                 <title>{kind}</title></line>"
            );
        }
        let point = |s: &Sample| format!("{:.1},{:.1}", x(s.at), top + HEIGHT * (1.0 - value(s) / largest));
        let points: Vec<_> = samples.iter().map(point).collect();
        let _ = write!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#2a9d8f\" stroke-width=\"1.5\"/>",
            points.join(" ")
        );
    }
    text + "</svg>\n"
}
