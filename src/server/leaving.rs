//! From being told to stop to the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::spans::Sending;
use crate::api::{InFlight, Phase, RequestLog, Rest};

/// How long errors may take to reach those whose requests were given up.
const GOODBYE: Duration = Duration::from_secs(1);

/// What tells servers to stop, and those that end when their connections then have ended.
pub(super) type Servers = (watch::Sender<bool>, JoinSet<()>);

/// A server that has been told to stop and says so, but still answers.
pub(super) struct Leaving {
    /// How long it goes on answering, until everybody knows.
    pub(super) lame_duck: Duration,
    /// How long requests that are running then may take.
    pub(super) drain: Duration,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) rest: Arc<Rest>,
    /// What answers gRPC.
    pub(super) grpc: Servers,
    /// What answers HTTP: to the end, for its pages.
    pub(super) http: Servers,
    /// Requests being answered.
    pub(super) in_flight: [Arc<InFlight>; 2],
    /// What sends spans.
    pub(super) sending: Option<Sending>,
    /// What writes requests down.
    pub(super) log: Option<Arc<RequestLog>>,
}

impl Leaving {
    /// Returns when nothing runs any more: everything was answered, or given up after its time.
    pub(super) async fn work(mut self) {
        tokio::time::sleep(self.lame_duck).await;
        self.phase.send_replace(Phase::Over);
        self.grpc.0.send_replace(true);
        self.rest.close();
        if tokio::time::timeout(self.drain, self.ended()).await.is_err() {
            let running: usize = self.in_flight.iter().map(|in_flight| in_flight.now()).sum();
            tracing::warn!(running, "some requests were still running and are given up");
            self.in_flight.iter().for_each(|in_flight| in_flight.give_up());
            // Callers who do not read their answers are not waited for.
            let _ = tokio::time::timeout(GOODBYE, self.ended()).await;
        }
        // The last replies are on their way.
        let (stop, servers) = &mut self.http;
        stop.send_replace(true);
        let _ = tokio::time::timeout(GOODBYE, ended(servers)).await;
        if let Some(sending) = self.sending {
            sending.finish().await;
        }
        if let Some(log) = self.log {
            // Writing may take a moment, as answering requests did.
            let _ = tokio::time::timeout(self.drain, tokio::task::spawn_blocking(move || log.finish())).await;
        }
    }

    async fn ended(&mut self) {
        let [_, rest] = &self.in_flight;
        tokio::join!(ended(&mut self.grpc.1), rest.none());
    }
}

async fn ended(servers: &mut JoinSet<()>) {
    while servers.join_next().await.is_some() {}
}
