//! The daemon's life: listen, load, serve, drain.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::args::ServeArgs;
use super::config::Config;
use super::connections::{answer, answer_locally};
use super::http::{self, Pages};
use super::listen::listen;
use super::model_file::Follower;
use super::stop::Stop;
use super::summary::summary;
use super::telemetry::{Metrics, start_logging};
use super::values::Values;
use crate::api::{Budget, InFlight, Options, Rest, SERVICES, Services, router};
use crate::batch::{SystemClock, Turns};
use crate::engine::{Engine, keep_driver_cache_in};
use crate::error::{Error, Result};
use crate::formats::onnx::ImportOptions;
use crate::model::{Board, Context, EngineLoader, Manager, scan};

/// Serves until told to stop; or, with `--print-config`, prints the settings; or, with `--check`, says what is wrong with them.
///
/// # Errors
/// What kept it from starting: settings, each in a line, a port, the adapter, or that no model could be loaded, naming why.
pub fn run(args: &ServeArgs) -> Result<()> {
    let together = |wrong: Vec<Error>| {
        let lines: Vec<_> = wrong.iter().map(Error::message).collect();
        Error::invalid_argument(lines.join("\n"))
    };
    let values = Values::collect(args, |name| std::env::var(name).ok()).map_err(together)?;
    if args.print {
        return Ok(write!(std::io::stdout(), "{}", values.to_toml())?);
    }
    let config = values.understand().map_err(together)?;
    if args.check {
        let missing = config.models.iter().filter_map(|model| scan(&model.base_path).err());
        let missing: Vec<Error> = missing.collect();
        if !missing.is_empty() {
            return Err(together(missing));
        }
        return Ok(writeln!(std::io::stdout(), "the configuration is right: {} models", config.models.len())?);
    }
    if let Some(folder) = &config.engine.cache {
        keep_driver_cache_in(folder);
    }
    start_logging(&config.log_level, config.json_log)?;
    values.notes.iter().for_each(|note| tracing::info!("{note}"));
    for model in config.models.iter().filter(|model| model.memory_fraction.is_some()) {
        tracing::info!(model = model.name, "a model's own memory fraction has no effect: the process's has");
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.host_threads {
        builder.worker_threads(threads).max_blocking_threads(threads);
    }
    let runtime = builder.enable_all().build()?;
    let result = runtime.block_on(serve(config));
    // Loads under way may take long: nobody waits for them.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn serve(config: Config) -> Result<()> {
    let mut stop_signal = Stop::listen()?;
    let pages = Arc::new(Pages {
        metrics: Metrics::new(),
        budget: Budget::new(config.request_memory_bytes),
        engine: OnceLock::new(),
        board: OnceLock::new(),
        manager: OnceLock::new(),
        ready: config.ready,
        open: AtomicBool::new(false),
    });
    let http_listener = config.http_port.map(|port| listen(&config.host, port)).transpose()?;
    let http_port = http_listener.as_ref().map(|listener| Ok::<_, Error>(listener.local_addr()?.port())).transpose()?;
    let rest_in_flight = InFlight::new(config.rest_requests_max, "rest_api_num_threads");
    let (budget, observer) = (Arc::clone(&pages.budget), Arc::clone(&pages.metrics) as _);
    let rest = Rest::new(budget, Arc::clone(&rest_in_flight), observer, config.rest);
    if let Some(listener) = http_listener {
        // Ends with the process, so that pages answer while requests drain.
        let ((never, stopping), app) =
            (watch::channel(false), http::router(Arc::clone(&pages), config.metrics_path.as_deref(), &rest));
        tokio::spawn(async move {
            drop(answer(listener, app, stopping).await);
            drop(never);
        });
    }
    let (engine, manager, board) = tokio::select! {
        loaded = load(&config, &pages) => loaded?,
        () = stop_signal.told() => return Err(Error::cancelled("told to stop while models were loading")),
    };
    let listener = config.port.map(|port| listen(&config.host, port)).transpose()?;
    let port = listener.as_ref().map(|listener| Ok::<_, Error>(listener.local_addr()?.port())).transpose()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    let services = Services {
        manager: Arc::clone(&manager),
        budget: Arc::clone(&pages.budget),
        in_flight: InFlight::new(config.grpc_requests_max, "grpc_max_threads"),
        options: Options {
            tensor_content: config.tensor_content,
            check_method: config.check_method,
            max_message_bytes: config.max_message_bytes,
        },
        observer: Arc::clone(&pages.metrics) as _,
        admin: config.admin.clone(),
    };
    let app = router(services, health_service)?;
    report_services(&health, ServingStatus::Serving).await;
    let follower = tokio::spawn(follow_models(manager.watch(), health.clone()));
    write!(std::io::stdout(), "{}", summary(&engine, &manager, &board, port, http_port))?;
    let (stop, stopping) = watch::channel(false);
    let mut servers = tokio::task::JoinSet::new();
    if let Some(listener) = listener {
        servers.spawn(answer(listener, app.clone(), stopping.clone()));
    }
    if let Some(path) = &config.socket {
        servers.spawn(answer_locally(path, app, stopping)?);
    }
    let followed = config.followed.map(|(path, every)| Follower {
        path,
        every,
        batching: config.admin.batching.clone(),
        timeout: config.admin.timeout,
        manager: Arc::clone(&manager),
    });
    let config_follower = followed.map(|follower| tokio::spawn(follower.work()));
    rest.open(Arc::clone(&manager));
    pages.open.store(true, Ordering::Release);
    if let Some(path) = &config.ports_file {
        write_ports(path, port, http_port)?;
    }
    tracing::info!(port, http_port, socket = ?config.socket, "answering requests");

    stop_signal.told().await;
    tracing::info!(drain = ?config.drain, "stopping: running requests may finish");
    pages.open.store(false, Ordering::Release);
    follower.abort();
    config_follower.inspect(tokio::task::JoinHandle::abort);
    report_services(&health, ServingStatus::NotServing).await;
    for name in manager.watch().borrow().models.keys().cloned().collect::<Vec<_>>() {
        health.set_service_status(name.as_ref(), ServingStatus::NotServing).await;
    }
    // The receiver lives in the server's task.
    let _ = stop.send(true);
    rest.close();
    let drained = async { tokio::join!(servers.join_all(), rest_in_flight.none()) };
    if tokio::time::timeout(config.drain, drained).await.is_err() {
        tracing::warn!("some requests were still running and are given up");
    }
    Ok(())
}

/// Opens the adapter and loads every model.
async fn load(config: &Config, pages: &Pages) -> Result<(Arc<Engine>, Arc<Manager>, Board)> {
    let options = config.engine.clone();
    let engine = tokio::task::spawn_blocking(move || Engine::start(&options))
        .await
        .map_err(|e| Error::internal(format!("opening the adapter failed: {e}")))??;
    if engine.adapter().is_software() {
        tracing::warn!(
            adapter = engine.adapter().name(),
            "no GPU is used: the processor computes in its place, many times slower"
        );
    }
    pages.metrics.name_device(engine.adapter().name());
    // The cells are filled only here.
    let _ = pages.engine.set(Arc::clone(&engine));
    let context = Context {
        turns: Turns::new(engine.lanes().len(), config.engine.in_flight),
        clock: Arc::new(SystemClock::start()?),
        observer: Arc::clone(&pages.metrics) as _,
    };
    let import = ImportOptions { strict_paths: config.strict_paths };
    let loader = Arc::new(EngineLoader::new(
        Arc::clone(&engine),
        config.shapes,
        import,
        config.own_parameters,
        config.policy.clone(),
    ));
    let manager = Arc::new(Manager::start(config.models.clone(), config.manager.clone(), loader, context)?);
    let _ = (pages.board.set(manager.watch()), pages.manager.set(Arc::clone(&manager)));
    let board = manager.settled().await?;
    if !board.models.values().any(|m| m.is_available()) {
        let reasons = board.models.iter().map(|(name, model)| match model.failure() {
            Some(error) => format!("{name}: {error}"),
            None => format!("{name}: no version was found"),
        });
        let reasons: Vec<String> = reasons.collect();
        return Err(Error::failed_precondition(format!("no model could be loaded: {}", reasons.join("; "))));
    }
    Ok((engine, manager, board))
}

async fn report_services(health: &HealthReporter, status: ServingStatus) {
    health.set_service_status("", status).await;
    for name in SERVICES {
        health.set_service_status(name, status).await;
    }
}

/// Health by model name; models that are no longer configured do not serve.
async fn follow_models(mut board: watch::Receiver<Board>, health: HealthReporter) {
    let mut told: BTreeSet<Arc<str>> = BTreeSet::new();
    loop {
        let now = board.borrow_and_update().clone();
        told.extend(now.models.keys().cloned());
        for name in &told {
            let is_available = now.models.get(name).is_some_and(|model| model.is_available());
            let status = if is_available { ServingStatus::Serving } else { ServingStatus::NotServing };
            health.set_service_status(name.as_ref(), status).await;
        }
        // Names that come and go must not fill memory.
        told.retain(|name| now.models.contains_key(name));
        if board.changed().await.is_err() {
            return;
        }
    }
}

/// Writes beside the target and renames: whoever reads the file reads all of it.
fn write_ports(path: &Path, grpc: Option<u16>, http: Option<u16>) -> Result<()> {
    let draft = path.with_extension("draft");
    let line = |name: &str, port: Option<u16>| port.map(|port| format!("{name}={port}\n")).unwrap_or_default();
    std::fs::write(&draft, line("grpc", grpc) + &line("http", http)).map_err(|e| Error::from(e).at(draft.display()))?;
    std::fs::rename(&draft, path).map_err(|e| Error::from(e).at(path.display()))
}
