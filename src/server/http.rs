//! The HTTP port: is the process alive, may it be sent requests, its metrics, and the REST API.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use super::config::Ready;
use super::faults;
use super::telemetry::Metrics;
use crate::api::{Budget, Rest};
use crate::fleet::Fleet;
use crate::model::{self, Board, Manager, ServableId, VersionChoice};

/// What the pages are made from; filled in while the server starts.
pub(super) struct Pages {
    pub(super) metrics: Arc<Metrics>,
    pub(super) budget: Arc<Budget>,
    pub(super) fleet: OnceLock<Arc<Fleet>>,
    pub(super) board: OnceLock<watch::Receiver<Board>>,
    pub(super) manager: OnceLock<Arc<Manager>>,
    pub(super) ready: Ready,
    /// Whether requests are answered, and will be for a while.
    pub(super) open: AtomicBool,
}

impl Pages {
    fn board(&self) -> Board {
        self.board.get().map(|b| b.borrow().clone()).unwrap_or_default()
    }

    /// Whether requests may come, and if not, why.
    fn readiness(&self) -> Result<(), String> {
        if !self.open.load(Ordering::Acquire) {
            return Err("the server is starting or stopping".into());
        }
        if self.fleet.get().is_some_and(|fleet| fleet.lanes().iter().all(|lane| lane.is_lost())) {
            return Err("every lane has lost its device".into());
        }
        let board = self.board();
        let missing: Vec<&str> =
            board.models.iter().filter(|(_, m)| !m.is_available()).map(|(name, _)| name.as_ref()).collect();
        let enough = match self.ready {
            Ready::Any => missing.len() < board.models.len(),
            Ready::All => missing.is_empty() && !board.models.is_empty(),
        };
        if enough { Ok(()) } else { Err(format!("not available: {}", missing.join(", "))) }
    }
}

/// Paths that are taken.
const PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The router of the HTTP port: these pages, metrics at `also` too, with `faults` those that break lanes, and the REST API for
/// all other paths.
pub(super) fn router(pages: Arc<Pages>, also: Option<&str>, faults: bool, rest: &Arc<Rest>) -> Router {
    let [alive, readiness, numbers] = PATHS;
    let router =
        Router::new().route(alive, get(|| async { "ok\n" })).route(readiness, get(ready)).route(numbers, get(metrics));
    let router = match also.filter(|path| !PATHS.contains(path)) {
        Some(path) => router.route(path, get(plain_metrics)),
        None => router,
    };
    let router = if faults { router.merge(faults::routes()) } else { router };
    router.with_state(pages).merge(rest.router())
}

async fn ready(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    match pages.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// With the type that TensorFlow Serving gives them.
async fn plain_metrics(pages: State<Arc<Pages>>) -> impl IntoResponse {
    let mut response = metrics(pages).await.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    response
}

async fn metrics(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    let fleet = pages.fleet.get().map(Arc::as_ref);
    let board = pages.board();
    let servable = |id: ServableId| {
        let servable = pages.manager.get()?.servable(&id.name, &VersionChoice::Specific(id.version)).ok()?;
        Some((id, servable.waiting()))
    };
    let waiting = board.in_state(model::State::Available).into_iter().filter_map(servable);
    let text = pages.metrics.encode(fleet, &pages.budget, &board, waiting);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
