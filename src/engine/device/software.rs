//! Threads of Mesa's software driver.
//!
//! The driver wakes a pool of threads for every dispatch. Where there are as many lanes as cores the pool only gets in the
//! way: each lane's own thread can compute alone, and small dispatches save two context switches.

/// The driver's variable: threads of its pool, 0 to compute on the thread that submits.
const POOL_THREADS: &str = "LP_NUM_THREADS";

/// Lets each of `lanes` lanes compute on its own thread if they are several and at least as many as there are cores. Nothing
/// is changed where the variable is set.
///
/// The driver reads the variable from the environment when it is loaded. A running process cannot change its environment
/// safely, so the program is started anew in its own place: call this first, before anything was done.
pub fn compute_on_lanes(lanes: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if lanes < 2 || lanes < cores || std::env::var_os(POOL_THREADS).is_some() {
        return;
    }
    #[cfg(unix)]
    if let Ok(program) = std::env::current_exe() {
        use std::os::unix::process::CommandExt as _;
        let mut arguments = std::env::args_os();
        let name = arguments.next();
        let mut command = std::process::Command::new(program);
        if let Some(name) = name {
            command.arg0(name);
        }
        // Returns only if it fails, and then everything works as it did, slower.
        let error = command.args(arguments).env(POOL_THREADS, "0").exec();
        tracing::debug!(%error, "the program could not be started anew for {POOL_THREADS}");
    }
}
