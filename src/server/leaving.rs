//! From being told to stop to the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::spans::Sending;
use crate::api::{InFlight, Phase, Rest};

/// How long errors may take to reach those whose requests were given up.
const GOODBYE: Duration = Duration::from_secs(1);

/// A server that has been told to stop and says so, but still answers.
pub(super) struct Leaving {
    /// How long it goes on answering, until everybody knows.
    pub(super) lame_duck: Duration,
    /// How long requests that are running then may take.
    pub(super) drain: Duration,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) rest: Arc<Rest>,
    /// What answers gRPC; ends by itself when it is told to stop and its connections have ended.
    pub(super) servers: JoinSet<()>,
    /// Requests being answered.
    pub(super) in_flight: [Arc<InFlight>; 2],
    /// What sends spans.
    pub(super) sending: Option<Sending>,
}

impl Leaving {
    /// Returns when nothing runs any more: everything was answered, or given up after its time.
    pub(super) async fn work(mut self) {
        tokio::time::sleep(self.lame_duck).await;
        self.phase.send_replace(Phase::Over);
        self.stop.send_replace(true);
        self.rest.close();
        if tokio::time::timeout(self.drain, self.ended()).await.is_err() {
            let running: usize = self.in_flight.iter().map(|in_flight| in_flight.now()).sum();
            tracing::warn!(running, "some requests were still running and are given up");
            self.in_flight.iter().for_each(|in_flight| in_flight.give_up());
            // Callers who do not read their answers are not waited for.
            let _ = tokio::time::timeout(GOODBYE, self.ended()).await;
        }
        if let Some(sending) = self.sending {
            sending.finish().await;
        }
    }

    async fn ended(&mut self) {
        let [_, rest] = &self.in_flight;
        let servers = async { while self.servers.join_next().await.is_some() {} };
        tokio::join!(servers, rest.none());
    }
}
