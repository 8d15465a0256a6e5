//! Faults on demand, to test what callers see: lanes that lose their devices, hang, or compute wrong.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;

use super::http::Pages;
use crate::engine::Engine;

/// `/faults/lanes/N/lose`, `hang` and `corrupt`.
pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new().route("/faults/lanes/{lane}/{fault}", post(inject))
}

async fn inject(State(pages): State<Arc<Pages>>, Path((lane, fault)): Path<(usize, String)>) -> (StatusCode, String) {
    let lanes = pages.engine.get().map(|engine| Engine::lanes(engine)).unwrap_or_default();
    let Some(lane) = lanes.get(lane) else {
        return (StatusCode::NOT_FOUND, format!("there is no lane {lane}, of {}\n", lanes.len()));
    };
    match fault.as_str() {
        "lose" => lane.simulate_loss(),
        "hang" => lane.faults().hang(),
        "corrupt" => lane.faults().corrupt(),
        _ => return (StatusCode::NOT_FOUND, format!("no fault {fault:?}, expected lose, hang or corrupt\n")),
    }
    tracing::warn!(lane = lane.index(), fault, "a fault was injected");
    (StatusCode::OK, "done\n".to_owned())
}
