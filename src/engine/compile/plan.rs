//! Which buffers share memory.

use crate::engine::ir::{Buffer, BufferId, Program};

/// The steps, counted over the whole program, at which a buffer must hold its contents: first to last.
type Span = (usize, usize);

/// Drops buffers that nothing binds and gives every scratch buffer a pool; two of one pool are never live at once.
///
/// Largest first, each into the first pool it does not overlap: within a few percent of the best for neural networks
/// (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
pub(super) fn assign_pools(program: &mut Program) {
    let spans = remove_unused(program);
    let mut order: Vec<usize> = (0..program.buffers.len()).collect();
    order.sort_by_key(|b| match &program.buffers[*b] {
        Buffer::Scratch { bytes, .. } => (std::cmp::Reverse(*bytes), *b),
        _ => (std::cmp::Reverse(0), *b),
    });
    let mut pools: Vec<Vec<Span>> = Vec::new();
    for index in order {
        let Buffer::Scratch { pool, .. } = &mut program.buffers[index] else { continue };
        let span = spans[index];
        let free = |taken: &Vec<Span>| taken.iter().all(|t| span.1 < t.0 || t.1 < span.0);
        let chosen = pools.iter().position(free).unwrap_or(pools.len());
        if chosen == pools.len() {
            pools.push(Vec::new());
        }
        pools[chosen].push(span);
        *pool = chosen;
    }
}

/// Compacts the buffers to those that are bound or copied, and says when each is live.
fn remove_unused(program: &mut Program) -> Vec<Span> {
    let mut spans: Vec<Option<Span>> = vec![None; program.buffers.len()];
    let mut touch = |buffer: BufferId, step: usize| {
        let span = spans[buffer.0].get_or_insert((step, step));
        span.1 = span.1.max(step);
    };
    let mut step = 0;
    for segment in &program.segments {
        for port in &segment.uploads {
            touch(port.buffer, step);
        }
        for dispatch in &segment.dispatches {
            step += 1;
            dispatch.buffers.iter().for_each(|b| touch(*b, step));
        }
        step += 1;
        for port in &segment.downloads {
            touch(port.buffer, step);
        }
    }
    let mut renamed = vec![BufferId(usize::MAX); spans.len()];
    let mut kept = 0;
    for (index, span) in spans.iter().enumerate() {
        if span.is_some() {
            renamed[index] = BufferId(kept);
            kept += 1;
        }
    }
    let mut live = spans.iter().map(Option::is_some);
    program.buffers.retain(|_| live.next().unwrap_or(false));
    for segment in &mut program.segments {
        let ports = segment.uploads.iter_mut().chain(&mut segment.downloads);
        ports.for_each(|p| p.buffer = renamed[p.buffer.0]);
        let bound = segment.dispatches.iter_mut().flat_map(|d| &mut d.buffers);
        bound.for_each(|b| *b = renamed[b.0]);
    }
    spans.into_iter().flatten().collect()
}
