//! How much memory there is.

/// The most that requests get by default.
const REQUEST_MEMORY_MAX: u64 = 4 << 30;
/// What they get of a machine whose memory cannot be found out.
const UNKNOWN_MACHINE: u64 = 1 << 30;

/// The lesser of 4 GiB and a quarter of what the process may use.
pub(super) fn default_request_memory_bytes() -> u64 {
    available_bytes().map_or(UNKNOWN_MACHINE, |bytes| (bytes / 4).min(REQUEST_MEMORY_MAX))
}

/// The lesser of the machine's memory and the control group's limit.
pub(super) fn available_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?.to_owned();
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kib * 1024)
    });
    // Version 2 and version 1 of control groups; "max" is no number and no limit.
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .filter_map(read)
        .filter_map(|text| text.trim().parse::<u64>().ok())
        .min();
    machine.into_iter().chain(group).min()
}
