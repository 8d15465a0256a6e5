//! The daemon's life: listen, load, serve, drain.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::args::ServeArgs;
use super::config::{Config, Followed};
use super::connections::{Port, answer, answer_locally};
use super::http::{self, Pages};
use super::journal::Journal;
use super::leaving::Leaving;
use super::listen::listen;
use super::logging::start_logging;
use super::model_file::Follower;
use super::open_files::raise_open_files_limit;
use super::sealed::follow;
use super::stop::Stop;
use super::summary::summary;
use super::telemetry::Metrics;
use super::values::Values;
use crate::api::{Budget, Health, InFlight, Options, Phase, Replay, RequestLog, Rest, Services, router};
use crate::batch::{SystemClock, Turns};
use crate::engine::{Engine, keep_driver_cache_in};
use crate::error::{Error, Result};
use crate::formats::onnx::ImportOptions;
use crate::model::{Board, Checker, Context, EngineLoader, Manager, check_versions};

/// Why the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to, or had done what it was asked.
    Told,
    /// Devices hang: another process must take its place.
    Hopeless,
}

/// Serves until told to stop; or, with `--print-config`, prints the settings; or, with `--check`, says what is wrong with them.
///
/// # Errors
/// What kept it from starting: settings, each in a line, a port, the adapter, or that no model could be loaded, naming why.
pub fn run(args: &ServeArgs) -> Result<Ended> {
    let together = |wrong: Vec<Error>| {
        let lines: Vec<_> = wrong.iter().map(Error::message).collect();
        Error::invalid_argument(lines.join("\n"))
    };
    let values = Values::collect(args, |name| std::env::var(name).ok()).map_err(together)?;
    if args.print {
        write!(std::io::stdout(), "{}", values.to_toml())?;
        return Ok(Ended::Told);
    }
    let config = values.understand().map_err(together)?;
    if args.check {
        let import = ImportOptions { strict_paths: config.strict_paths };
        let wrong: Vec<Error> =
            config.models.iter().flat_map(|model| check_versions(&model.base_path, import)).collect();
        if !wrong.is_empty() {
            return Err(together(wrong));
        }
        writeln!(std::io::stdout(), "the configuration is right: {} models", config.models.len())?;
        return Ok(Ended::Told);
    }
    if let Some(folder) = &config.engine.cache {
        keep_driver_cache_in(folder);
    }
    start_logging(&config.log_level, config.json_log)?;
    values.notes.iter().chain(&values.unused_channel_arguments()).for_each(|note| tracing::info!("{note}"));
    raise_open_files_limit();
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

async fn serve(mut config: Config) -> Result<Ended> {
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
    let (journal, sending) = Journal::start(Arc::clone(&pages.metrics), config.otlp.take());
    let (budget, observer) = (Arc::clone(&pages.budget), Arc::clone(&journal) as _);
    let access = Arc::clone(&config.admin.access);
    let log = request_log(&config, &pages)?;
    let rest = Rest::new(budget, Arc::clone(&rest_in_flight), access, observer, config.rest, log.clone());
    let (grpc_tls, http_tls) = (config.identities.grpc.clone(), config.identities.http.clone());
    if config.port.is_some() && config.http_port.is_some() {
        config.identities.warn_of_bare_port();
    }
    let limits = Arc::new(config.limits.clone());
    let port = |name, tls| Port {
        name,
        limits: Arc::clone(&limits),
        tls,
        budget: Arc::clone(&pages.budget),
        connection_fraction: config.connection_fraction,
        metrics: Arc::clone(&pages.metrics),
    };
    tokio::spawn(follow(std::mem::take(&mut config.sealed)));
    // Its pages answer while requests drain.
    let (http_stop, http_stopping) = watch::channel(false);
    let mut http_server = JoinSet::new();
    if let Some(listener) = http_listener {
        let app = http::router(Arc::clone(&pages), config.metrics_path.as_deref(), config.faults, &rest);
        http_server.spawn(answer(listener, app, port("http", http_tls), http_stopping));
    }
    let (engine, manager, board) = tokio::select! {
        loaded = load(&config, &pages) => loaded?,
        () = stop_signal.told() => {
            tracing::info!("told to stop while models are being loaded: that is given up");
            return Ok(Ended::Told);
        }
    };
    let listener = config.port.map(|port| listen(&config.host, port)).transpose()?;
    let grpc_port = listener.as_ref().map(|listener| Ok::<_, Error>(listener.local_addr()?.port())).transpose()?;
    let (phase, phases) = watch::channel(Phase::Serving);
    let in_flight = InFlight::new(config.grpc_requests_max, "grpc_max_threads");
    let services = Services {
        manager: Arc::clone(&manager),
        budget: Arc::clone(&pages.budget),
        in_flight: Arc::clone(&in_flight),
        options: Options {
            tensor_content: config.tensor_content,
            check_method: config.check_method,
            max_message_bytes: config.max_message_bytes,
            receive_timeout: config.receive_timeout,
        },
        observer: journal,
        admin: config.admin.clone(),
        health: Health { board: manager.watch(), phase: phases },
        log: log.clone(),
    };
    let app = router(services)?;
    write!(std::io::stdout(), "{}", summary(&engine, &manager, &board, grpc_port, http_port))?;
    let (stop, stopping) = watch::channel(false);
    let mut servers = JoinSet::new();
    if let Some(listener) = listener {
        servers.spawn(answer(listener, app.clone(), port("grpc", grpc_tls), stopping.clone()));
    }
    if let Some(path) = &config.socket {
        servers.spawn(answer_locally(path, app, port("socket", None), stopping)?);
    }
    let followed = config.followed.map(|Followed { path, every, text }| Follower {
        path,
        every,
        last: text,
        batching: config.admin.batching.clone(),
        timeout: config.admin.timeout,
        manager: Arc::clone(&manager),
    });
    let config_follower = followed.map(|follower| tokio::spawn(follower.work()));
    rest.open(Arc::clone(&manager));
    pages.open.store(true, Ordering::Release);
    if let Some(path) = &config.ports_file {
        write_ports(path, grpc_port, http_port)?;
    }
    tracing::info!(port = grpc_port, http_port, socket = ?config.socket, "answering requests");

    let ended = tokio::select! {
        () = stop_signal.told() => Ended::Told,
        () = engine.hopeless() => Ended::Hopeless,
    };
    tracing::info!(lame_duck = ?config.lame_duck, drain = ?config.drain, "stopping: running requests may finish");
    pages.open.store(false, Ordering::Release);
    phase.send_replace(Phase::Leaving);
    config_follower.inspect(JoinHandle::abort);
    let leaving = Leaving {
        lame_duck: config.lame_duck,
        drain: config.drain,
        phase,
        rest,
        grpc: (stop, servers),
        http: (http_stop, http_server),
        in_flight: [in_flight, rest_in_flight],
        sending,
        log,
    };
    tokio::select! {
        () = leaving.work() => Ok(ended),
        () = stop_signal.told() => Err(Error::cancelled("told to stop again: what was running is given up")),
    }
}

/// What writes requests down, where that is wanted.
fn request_log(config: &Config, pages: &Pages) -> Result<Option<Arc<RequestLog>>> {
    let observer = Arc::clone(&pages.metrics) as _;
    let log = config.request_log.clone().map(|(folder, bytes_max)| RequestLog::start(folder, bytes_max, observer));
    log.transpose()
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
    let observer = Arc::clone(&pages.metrics) as _;
    let context = Context {
        turns: Turns::new(engine.lanes().len(), config.engine.in_flight),
        clock: Arc::new(SystemClock::start()?),
        observer: Arc::clone(&pages.metrics) as _,
        warm_up: (config.warm_up > 0).then(|| {
            Arc::new(Replay {
                iterations: config.warm_up,
                budget: Arc::clone(&pages.budget),
                check_method: config.check_method,
                record_bytes_max: config.max_message_bytes as u64,
            }) as _
        }),
        checker: config.checks.clone().map(|checks| Checker::start(checks, observer)).transpose()?,
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

/// Writes beside the target and renames: whoever reads the file reads all of it.
fn write_ports(path: &Path, grpc: Option<u16>, http: Option<u16>) -> Result<()> {
    let draft = path.with_extension("draft");
    let line = |name: &str, port: Option<u16>| port.map(|port| format!("{name}={port}\n")).unwrap_or_default();
    std::fs::write(&draft, line("grpc", grpc) + &line("http", http)).map_err(|e| Error::from(e).at(draft.display()))?;
    std::fs::rename(&draft, path).map_err(|e| Error::from(e).at(path.display()))
}
