//! Faults on demand, to test what callers see: lanes that lose their devices (for good, if they are to), hang, have no memory left, or compute wrong.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;

use super::http::Pages;

/// `/faults/lanes/N/lose`, `hang`, `corrupt`, `bury` (no device opens in its place), `starve` and `feed`, which ends the last.
pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new().route("/faults/lanes/{lane}/{fault}", post(inject))
}

async fn inject(State(pages): State<Arc<Pages>>, Path((lane, fault)): Path<(usize, String)>) -> (StatusCode, String) {
    let lanes = pages.fleet.get().map(|fleet| fleet.lanes()).unwrap_or_default();
    let Some(lane) = lanes.get(lane) else {
        return (StatusCode::NOT_FOUND, format!("there is no lane {lane}, of {}\n", lanes.len()));
    };
    match fault.as_str() {
        "lose" => lane.simulate_loss(),
        "hang" => lane.faults().hang(),
        "corrupt" => lane.faults().corrupt(),
        "bury" => lane.faults().bury(),
        "starve" => lane.simulate_shortage(true),
        "feed" => lane.simulate_shortage(false),
        _ => {
            let what = format!("no fault {fault:?}, expected lose, hang, corrupt, bury, starve or feed\n");
            return (StatusCode::NOT_FOUND, what);
        }
    }
    tracing::warn!(lane = lane.number(), fault, "a fault was injected");
    (StatusCode::OK, "done\n".to_owned())
}
