//! Kernels compiled on several threads: reading WGSL and making SPIR-V takes longer than everything else when a program is
//! prepared.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::gpu::Gpu;
use crate::engine::ir::{Kernel, Program};
use crate::error::Result;

/// Threads at most: drivers lock among themselves, and other models are served meanwhile.
const THREADS_MAX: usize = 8;

/// Compiles what `program` needs and `gpu` lacks.
pub(super) fn compile_all(gpu: &Gpu, program: &Program) -> Result<()> {
    let mut seen = HashSet::new();
    let kernels = program.segments.iter().flat_map(|s| &s.dispatches).map(|d| &d.kernel);
    let missing: Vec<&Kernel> = kernels.filter(|kernel| seen.insert(*kernel) && !gpu.is_ready(kernel)).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(missing.len());
    if threads < 2 {
        // They are compiled one by one when they are bound.
        return Ok(());
    }
    let queue = Mutex::new(missing.into_iter());
    let work = || -> Result<()> {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(kernel) = next else { return Ok(()) };
            gpu.make_ready(kernel)?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        // A worker that panicked has compiled less: what it left is compiled when it is bound.
        workers.into_iter().filter_map(|worker| worker.join().ok()).fold(own, Result::and)
    })
}
