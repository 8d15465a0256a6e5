//! Processor time of this process.

/// Processor seconds that this process has used, where the system tells.
pub(super) fn own_cpu() -> Option<f64> {
    /// Linux counts processor time for programs in hundredths of a second.
    const TICKS_PER_S: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets may hold anything; the 14th and 15th fields are time in the process and in the kernel.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_S)
}
