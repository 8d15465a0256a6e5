//! The service: one handler for every path of the API, over a manager's models.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::batching::report;
use super::body::{deflate, drain, gather, takes_gzip};
use super::examples::{classify, regress};
use super::json::JsonLimits;
use super::metadata::signatures;
use super::predict::predict;
use super::reply::{Refusal, Reply, not_found};
use super::route::{Action, Route, is_ours, route};
use super::status::{list, status};
use crate::api::budget::{Budget, Ledger};
use crate::api::deadline::deadline;
use crate::api::gather::Held;
use crate::api::in_flight::{InFlight, Place};
use crate::api::inference::{Recorder, Target, Terms, Wanted};
use crate::api::observer::{Answering, Call, Entrypoint, Observer};
use crate::api::priority::priority;
use crate::api::tfs::RequestLog;
use crate::api::tokens::{Access, Right};
use crate::api::trail::Trail;
use crate::error::{Error, Result};
use crate::model::{Manager, VersionChoice};

/// What a preflight may be told, and every other caller is.
const CORS: [(HeaderName, HeaderValue); 3] = [
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET")),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type")),
];

/// How the service behaves.
#[derive(Clone, Copy, Debug)]
pub struct RestOptions {
    /// Longest that a request takes.
    pub timeout: Duration,
    /// Whether pages of other origins may call.
    pub cors: bool,
    /// Bytes of one request's body, inflated.
    pub max_body_bytes: usize,
    /// Replies of fewer bytes are never compressed; 0: none is.
    pub gzip_min_bytes: usize,
    /// Classify and Regress insist on signatures of their own method.
    pub check_method: bool,
    /// Bounds on JSON.
    pub limits: JsonLimits,
}

/// The service. It answers UNAVAILABLE until it has models, and again when it is closed.
pub struct Rest {
    manager: OnceLock<Arc<Manager>>,
    budget: Arc<Budget>,
    in_flight: Arc<InFlight>,
    access: Arc<Access>,
    observer: Arc<dyn Observer>,
    options: RestOptions,
    log: Option<Arc<dyn Recorder>>,
    closed: OnceLock<()>,
}

/// A request on its way through a handler.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) headers: HeaderMap,
    pub(super) query: Option<String>,
    pub(super) body: Bytes,
    pub(super) terms: Terms,
    pub(super) limits: JsonLimits,
    /// Who answers, once the request says which signature it means.
    pub(super) asked: OnceLock<Answering>,
}

/// What a call is counted as.
#[derive(Default)]
struct Counted {
    action: Option<Action>,
    /// Who answered.
    asked: Option<Answering>,
    /// The model asked for, where no version answered.
    model: Option<String>,
}

impl Rest {
    /// A service that has no models yet; requests are written down in `log`, if there is one.
    pub fn new(
        budget: Arc<Budget>,
        in_flight: Arc<InFlight>,
        access: Arc<Access>,
        observer: Arc<dyn Observer>,
        options: RestOptions,
        log: Option<Arc<RequestLog>>,
    ) -> Arc<Self> {
        let (manager, closed) = (OnceLock::new(), OnceLock::new());
        let log = log.map(|log| log as _);
        Arc::new(Self { manager, budget, in_flight, access, observer, options, log, closed })
    }

    /// Lets requests at the models of `manager`; only the first call counts.
    pub fn open(&self, manager: Arc<Manager>) {
        // A second manager would be another server.
        let _ = self.manager.set(manager);
    }

    /// Refuses requests that come from now on.
    pub fn close(&self) {
        self.closed.get_or_init(|| ());
    }

    /// A router that answers whatever path it is asked.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(answer).with_state(Arc::clone(self))
    }

    /// The models; before there are any, no label stands for anything yet.
    fn manager(&self, version: &VersionChoice) -> Result<&Arc<Manager>> {
        if self.closed.get().is_some() {
            return Err(Error::unavailable("the server is stopping"));
        }
        self.manager.get().ok_or_else(|| {
            Error::unavailable(match version {
                VersionChoice::Label(label) => format!("Model labels does not init yet.{label}"),
                _ => "the models are still being loaded".to_owned(),
            })
        })
    }

    async fn respond(
        &self,
        parts: Parts,
        body: &mut Body,
        ledger: &Arc<Ledger>,
        start: Instant,
        counted: &mut Counted,
    ) -> Result<(Reply, Place), Refusal> {
        let place = self.in_flight.enter()?;
        let Route { action, model, version } = route(&parts.method, parts.uri.path())?;
        counted.action = Some(action);
        self.access.permit(right(action), &parts.headers)?;
        let manager = self.manager(&version)?;
        let own = start + self.options.timeout;
        let deadline = deadline(&parts.headers, start).map_or(own, |theirs| theirs.min(own));
        let priority = priority(&parts.headers)?;
        let target = if matches!(action, Action::Predict | Action::Classify | Action::Regress) {
            let wanted = Wanted::new(model.clone(), version.clone(), String::new())?;
            let target = Target::find(manager, &wanted, Some(deadline)).await?;
            counted.asked = Some(target.answering());
            // What would come too late is refused before its body is read.
            target.foresee(Some(deadline))?;
            Some(target)
        } else {
            None
        };
        let gathering = gather(&parts.headers, body, self.options.max_body_bytes, ledger);
        let body = tokio::time::timeout_at(deadline.into(), gathering)
            .await
            .map_err(|_| Error::deadline_exceeded("the request's body did not come in time"))??;
        let takes_gzip = takes_gzip(&parts.headers);
        let mut reply = match (action, target) {
            (_, Some(target)) => {
                let (query, headers) = (parts.uri.query().map(str::to_owned), parts.headers);
                let (ledger, limits) = (Arc::clone(ledger), self.options.limits);
                let (deadline, check_method) = (Some(deadline), self.options.check_method);
                let terms = Terms { deadline, priority, ledger, check_method, log: self.log.clone() };
                let asked = OnceLock::new();
                let asking = Arc::new(Asking { headers, query, body, terms, limits, asked });
                let reply = match action {
                    Action::Classify => classify(&asking, target).await,
                    Action::Regress => regress(&asking, target).await,
                    _ => predict(&asking, target).await,
                };
                counted.asked = asking.asked.get().cloned().or(counted.asked.take());
                reply?
            }
            (Action::Status, None) => {
                let reply = status(manager, &model, &version)?;
                counted.model = Some(model);
                reply
            }
            (Action::Metadata, None) => signatures(manager, &model, version, &mut counted.asked)?,
            (Action::Batching, None) => {
                let servable = manager.servable(&model, &version)?;
                counted.asked = Some(Answering { id: servable.id().clone(), signature: String::new() });
                report(servable.id(), &servable.batching())
            }
            (_, None) => list(&manager.watch().borrow()),
        };
        let smallest = self.options.gzip_min_bytes;
        if smallest > 0 && reply.body.len() >= smallest && takes_gzip {
            reply.body = deflate(reply.body, ledger).await?;
            reply.headers.push((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
            reply.headers.push((header::VARY, HeaderValue::from_static("accept-encoding")));
        }
        Ok((reply, place))
    }

    fn observe(&self, start: Instant, counted: &Counted, error: Option<&Error>) {
        let asked = counted.asked.as_ref();
        self.observer.called(&Call {
            entrypoint: Entrypoint::Rest,
            method: counted.action.map_or("Unknown", Action::name),
            model: asked.map(|asked| &*asked.id.name).or(counted.model.as_deref()).unwrap_or_default(),
            version: asked.map(|asked| asked.id.version),
            signature: asked.map_or("", |asked| &asked.signature),
            error,
            latency: start.elapsed(),
        });
    }

    async fn answer(self: Arc<Self>, request: Request) -> Response {
        let start = Instant::now();
        if !is_ours(request.uri().path()) {
            return not_found();
        }
        let trail = Trail::begin(request.headers());
        let mut response = if *request.method() == Method::OPTIONS {
            preflight(request.headers()).response().map(Body::new)
        } else {
            let mut counted = Counted::default();
            let (parts, mut body) = request.into_parts();
            // That of its connection, if it has one.
            let ledger = Ledger::open(parts.extensions.get().unwrap_or(&self.budget));
            let answering = async {
                let outcome = tokio::select! {
                    outcome = self.respond(parts, &mut body, &ledger, start, &mut counted) => outcome,
                    error = self.in_flight.given_up() => Err(error.into()),
                };
                let error = outcome.as_ref().err().map(Refusal::error);
                if error.is_some_and(|error| error.wait().is_some()) {
                    self.observer.refused(Entrypoint::Rest, start.elapsed());
                }
                self.observe(start, &counted, error);
                outcome
            };
            let outcome = trail.around(answering).await;
            let (reply, place) = match outcome {
                Ok((reply, place)) => (reply, Some(place)),
                Err(refusal) => {
                    // Beside the reply, which need not wait for it.
                    tokio::spawn(async move { drain(&mut body).await });
                    (Reply::refusal(&refusal), None)
                }
            };
            reply.response().map(|body| Body::new(Held::new(body, (ledger, place))))
        };
        if self.options.cors {
            response.headers_mut().extend(CORS.map(|(name, value)| (Some(name), value)));
        }
        trail.mark(response.headers_mut());
        response
    }
}

/// The right that callers need.
fn right(action: Action) -> Right {
    match action {
        Action::Predict | Action::Classify | Action::Regress => Right::Predict,
        Action::List | Action::Status | Action::Metadata | Action::Batching => Right::Look,
    }
}

async fn answer(State(rest): State<Arc<Rest>>, request: Request) -> Response {
    rest.answer(request).await
}

/// Whether a page of another origin may call: one that says where it comes from.
fn preflight(headers: &HeaderMap) -> Reply {
    let origin = headers.get(header::ORIGIN).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if origin.contains("http://") || origin.contains("https://") {
        return Reply::json(Bytes::new());
    }
    Reply::error(&Error::failed_precondition("Origin header is missing in CORS preflight"))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;
    use crate::api::observer::Silent;

    #[tokio::test]
    async fn before_the_models_are_there_labels_stand_for_nothing_yet() {
        let limits = JsonLimits { depth_max: 8, elements_max: 8 };
        let (timeout, max_body_bytes) = (Duration::from_secs(60), 1 << 10);
        let options =
            RestOptions { timeout, cors: false, max_body_bytes, gzip_min_bytes: 0, check_method: false, limits };
        let (budget, in_flight) = (Budget::new(1 << 20), InFlight::new(0, "requests"));
        let rest = Rest::new(budget, in_flight, Arc::default(), Arc::new(Silent), options, None);
        for (path, text) in [
            ("/v1/models/m/labels/stable:predict", "Model labels does not init yet.stable"),
            ("/v1/models/m:predict", "the models are still being loaded"),
        ] {
            let request = http::Request::post(path).body(Body::from("{}")).expect("a request");
            let response = rest.router().oneshot(request).await.expect("the router answers");
            assert_eq!(response.status(), 503);
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            assert!(String::from_utf8_lossy(&body).contains(text), "{body:?}");
        }
    }
}
