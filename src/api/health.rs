//! `grpc.health.v1.Health` for the server, its services by their short and full names, and each model.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

use super::router::SERVICES;
use crate::model::Board;

/// How far the server's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Requests are answered.
    Serving,
    /// They still are, but should go elsewhere.
    Leaving,
    /// Nobody is to come any more: watchers are told goodbye.
    Over,
}

/// The service: it knows what the board and the phase say at any time.
#[derive(Clone, Debug)]
pub struct Health {
    /// States of the models.
    pub board: watch::Receiver<Board>,
    /// Of the server's life.
    pub phase: watch::Receiver<Phase>,
}

impl Health {
    /// `None` for names that nobody has.
    fn status(&self, service: &str) -> Option<ServingStatus> {
        let is_open = *self.phase.borrow() == Phase::Serving;
        let is_well = match service {
            "" => Some(true),
            _ if SERVICES.contains(&service) => Some(true),
            model => self.board.borrow().models.get(model).map(|model| model.is_available()),
        };
        is_well.map(|is_well| if is_well && is_open { ServingStatus::Serving } else { ServingStatus::NotServing })
    }

    /// Tells every change of a service's status until the watcher leaves or the server's life is over.
    async fn tell(mut self, service: String, watcher: mpsc::Sender<Result<HealthCheckResponse, Status>>) {
        let mut told = None;
        loop {
            self.board.mark_unchanged();
            let phase = *self.phase.borrow_and_update();
            let status = self.status(&service).unwrap_or(ServingStatus::ServiceUnknown);
            if told.replace(status) != Some(status) && watcher.send(Ok(reply(status))).await.is_err() {
                return;
            }
            if phase == Phase::Over {
                return;
            }
            let changed = tokio::select! {
                changed = self.board.changed() => changed,
                changed = self.phase.changed() => changed,
                () = watcher.closed() => return,
            };
            if changed.is_err() {
                return;
            }
        }
    }
}

fn reply(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        let unknown = || Status::not_found(format!("no service and no model is called {service:?}"));
        self.status(&service).map(reply).map(Response::new).ok_or_else(unknown)
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (watcher, told) = mpsc::channel(1);
        tokio::spawn(self.clone().tell(request.into_inner().service, watcher));
        Ok(Response::new(ReceiverStream::new(told)))
    }
}

/// The names that have a status besides the models'.
pub(super) fn service(health: Health) -> health_server::HealthServer<Health> {
    health_server::HealthServer::from_arc(Arc::new(health))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelStatus, State, Status as VersionStatus};

    fn board(models: &[(&str, State)]) -> Board {
        let model = |(name, state): &(&str, State)| {
            let versions = [(1, VersionStatus { state: *state, error: None, idle: false })].into();
            ((*name).into(), ModelStatus { versions, ..ModelStatus::default() })
        };
        Board { models: models.iter().map(model).collect(), ..Board::default() }
    }

    #[tokio::test]
    async fn each_change_is_told_once_and_the_end_ends_it() {
        let (boards, board_now) = watch::channel(board(&[("m", State::Loading)]));
        let (phases, phase) = watch::channel(Phase::Serving);
        let health = Health { board: board_now, phase };
        assert_eq!(health.status(""), Some(ServingStatus::Serving));
        assert_eq!(health.status("m"), Some(ServingStatus::NotServing));
        assert_eq!(health.status("n"), None);
        let (watcher, mut told) = mpsc::channel(1);
        tokio::spawn(health.clone().tell("m".into(), watcher));
        let mut next = async || told.recv().await.map(|reply| reply.expect("no error").status());
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        boards.send_replace(board(&[("m", State::Available)]));
        assert_eq!(next().await, Some(ServingStatus::Serving));
        // What does not change it is not told.
        boards.send_replace(board(&[("m", State::Available), ("n", State::Available)]));
        boards.send_replace(board(&[("n", State::Available)]));
        assert_eq!(next().await, Some(ServingStatus::ServiceUnknown));
        boards.send_replace(board(&[("m", State::Available)]));
        assert_eq!(next().await, Some(ServingStatus::Serving));
        phases.send_replace(Phase::Leaving);
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        phases.send_replace(Phase::Over);
        assert_eq!(next().await, None);
        assert_eq!(health.status("PredictionService"), Some(ServingStatus::NotServing));
    }
}
