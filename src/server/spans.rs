//! Spans on their way to a collector: a bounded queue, and a task that sends what is in it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::collector::Collector;
use super::telemetry::Metrics;
use crate::api::{Seldom, Span};

/// Spans that wait, and those that are sent together, at most.
const WAITING_MAX: usize = 4096;
const TOGETHER_MAX: usize = 512;
/// How long spans wait for company.
const TOGETHER: Duration = Duration::from_secs(1);
/// How long the last may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Takes spans. They are dropped, and counted, rather than waited for.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    queue: mpsc::Sender<Span>,
    fraction: f64,
    metrics: Arc<Metrics>,
}

/// The task that sends them.
pub(super) struct Sending {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Spans {
    /// Sends to `collector`. Of requests whose callers are in no trace the part `fraction` is recorded.
    pub(super) fn start(collector: Collector, fraction: f64, metrics: Arc<Metrics>) -> (Self, Sending) {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let (end, ending) = oneshot::channel();
        let task = tokio::spawn(work(waiting, collector, Arc::clone(&metrics), ending));
        (Self { queue, fraction, metrics }, Sending { end, task })
    }

    pub(super) fn fraction(&self) -> f64 {
        self.fraction
    }

    pub(super) fn push(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.metrics.spans_dropped(1);
        }
    }
}

impl Sending {
    /// Sends what waits, and ends.
    pub(super) async fn finish(self) {
        drop(self.end);
        // A collector that does not answer holds up nobody.
        let _ = tokio::time::timeout(GOODBYE, self.task).await;
    }
}

async fn work(
    mut waiting: mpsc::Receiver<Span>,
    collector: Collector,
    metrics: Arc<Metrics>,
    mut ending: oneshot::Receiver<()>,
) {
    static FAILED: Seldom<()> = Seldom::new();
    let mut spans = Vec::with_capacity(TOGETHER_MAX);
    let mut is_ending = false;
    loop {
        let first = tokio::select! {
            first = waiting.recv() => first,
            _ = &mut ending, if !is_ending => {
                is_ending = true;
                waiting.close();
                continue;
            }
        };
        let Some(first) = first else { return };
        spans.push(first);
        let more = async { while spans.len() < TOGETHER_MAX && waiting.recv_many(&mut spans, 1).await > 0 {} };
        tokio::select! {
            () = more => {}
            // When the time is over, what has come goes.
            () = tokio::time::sleep(TOGETHER) => {}
            _ = &mut ending, if !is_ending => {
                is_ending = true;
                waiting.close();
            }
        }
        let sent = spans.len() as u64;
        match collector.send(std::mem::take(&mut spans)).await {
            Ok(refused) => metrics.spans_dropped(refused),
            Err(error) => {
                metrics.spans_dropped(sent);
                if let Some(left_out) = FAILED.pass(()) {
                    tracing::warn!(spans = sent, left_out, "spans could not be sent and are lost: {error}");
                }
            }
        }
    }
}
