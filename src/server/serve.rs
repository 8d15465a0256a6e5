//! The daemon's life: listen, load, serve, drain.

use std::io::Write as _;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::args::ServeArgs;
use super::config::{Config, Followed};
use super::doors::Doors;
use super::http::Pages;
use super::journal::Journal;
use super::leaving::Leaving;
use super::logging::start_logging;
use super::model_file::Follower;
use super::open_files::raise_open_files_limit;
use super::sealed::follow;
use super::stop::Stop;
use super::summary::summary;
use super::telemetry::Metrics;
use super::values::Values;
use crate::api::{Budget, Phase, Replay, RequestLog};
use crate::batch::{SystemClock, Turns};
use crate::engine::keep_driver_cache_in;
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::formats::onnx::ImportOptions;
use crate::model::{Board, Checker, Context, EngineLoader, Manager, check_versions};

/// Why the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to, or had done what it was asked.
    Told,
    /// No device works any more, and none will here: another process must take its place.
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
    start_logging(&config.log_level, config.json_log, config.log_folder.as_deref())?;
    let is_logged = config.log_folder.is_some();
    values.notes.iter().chain(&values.unused_channel_arguments()).for_each(|note| tracing::info!("{note}"));
    raise_open_files_limit();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    match config.host_threads {
        Some(threads) => builder.worker_threads(threads).max_blocking_threads(threads),
        // The lanes, and the threads of a software adapter's driver, need the others; workers that wake each other cost both.
        None => builder.worker_threads((available_parallelism().map_or(1, NonZero::get) / 2).max(1)),
    };
    let runtime = builder.enable_all().build()?;
    let result = runtime.block_on(serve(config));
    // Loads under way may take long: nobody waits for them.
    runtime.shutdown_timeout(Duration::from_millis(100));
    // Standard error is told by whoever called, but a service has none.
    result.inspect_err(|error| {
        if is_logged {
            tracing::error!("{error}")
        }
    })
}

async fn serve(mut config: Config) -> Result<Ended> {
    let mut stop_signal = Stop::listen()?;
    if config.port.is_some() && config.http_port.is_some() {
        config.identities.warn_of_bare_port();
    }
    let pages = pages(&config);
    let (journal, sending) = Journal::start(Arc::clone(&pages.metrics), config.otlp.take());
    let (log, followed) = (request_log(&config, &pages)?, config.followed.take());
    tokio::spawn(follow(std::mem::take(&mut config.sealed)));
    let doors = Doors::new(&config, &pages, &journal, log.as_ref());
    // Its pages answer while models are loaded, and while requests drain.
    let (rest, http) = doors.http()?;
    let (fleet, manager, board) = tokio::select! {
        loaded = load(&config, &pages) => loaded?,
        () = stop_signal.told() => {
            tracing::info!("told to stop while models are being loaded: that is given up");
            return Ok(Ended::Told);
        }
    };
    let (phase, phases) = watch::channel(Phase::Serving);
    let grpc = doors.grpc(&manager, phases)?;
    write!(std::io::stdout(), "{}", summary(&fleet, &manager, &board, grpc.port, http.port))?;
    let config_follower = followed.map(|followed| tokio::spawn(follower(followed, &config, &manager).work()));
    rest.open(Arc::clone(&manager));
    pages.open.store(true, Ordering::Release);
    if let Some(path) = &config.ports_file {
        write_ports(path, grpc.port, http.port)?;
    }
    tracing::info!(port = grpc.port, http_port = http.port, socket = ?config.socket, "answering requests");

    let ended = tokio::select! {
        () = stop_signal.told() => Ended::Told,
        () = fleet.hopeless() => Ended::Hopeless,
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
        grpc: grpc.servers,
        http: http.servers,
        in_flight: [grpc.in_flight, http.in_flight],
        sending,
        log,
    };
    tokio::select! {
        () = leaving.work() => Ok(ended),
        () = stop_signal.told() => Err(Error::cancelled("told to stop again: what was running is given up")),
    }
}

/// What pages show, as far as it is known before anything is loaded.
fn pages(config: &Config) -> Arc<Pages> {
    Arc::new(Pages {
        metrics: Metrics::new(),
        budget: Budget::new(config.request_memory_bytes),
        fleet: OnceLock::new(),
        board: OnceLock::new(),
        manager: OnceLock::new(),
        ready: config.ready,
        open: AtomicBool::new(false),
    })
}

/// What takes up the file of models when it changes.
fn follower(Followed { path, every, text }: Followed, config: &Config, manager: &Arc<Manager>) -> Follower {
    Follower {
        path,
        every,
        last: text,
        batching: config.admin.batching.clone(),
        timeout: config.admin.timeout,
        manager: Arc::clone(manager),
    }
}

/// What writes requests down, where that is wanted.
fn request_log(config: &Config, pages: &Pages) -> Result<Option<Arc<RequestLog>>> {
    let observer = Arc::clone(&pages.metrics) as _;
    let log = config.request_log.clone().map(|(folder, bytes_max)| RequestLog::start(folder, bytes_max, observer));
    log.transpose()
}

/// Opens the adapters and loads every model.
async fn load(config: &Config, pages: &Pages) -> Result<(Arc<Fleet>, Arc<Manager>, Board)> {
    let options = config.engine.clone();
    let fleet = tokio::task::spawn_blocking(move || Fleet::start(&options))
        .await
        .map_err(|e| Error::internal(format!("opening the adapter failed: {e}")))??;
    if fleet.engines().all(|(_, engine)| engine.adapter().is_software()) {
        let adapters: Vec<_> = fleet.engines().map(|(name, _)| name).collect();
        let adapter = adapters.join("; ");
        tracing::warn!(adapter, "no GPU is used: the processor computes in its place, many times slower");
    }
    pages.metrics.name_devices(fleet.names_by_lane());
    // The cells are filled only here.
    let _ = pages.fleet.set(Arc::clone(&fleet));
    let observer = Arc::clone(&pages.metrics) as _;
    let context = Context {
        turns: Turns::new(fleet.lanes().len(), config.engine.in_flight),
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
        Arc::clone(&fleet),
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
    Ok((fleet, manager, board))
}

/// Writes beside the target and renames: whoever reads the file reads all of it.
fn write_ports(path: &Path, grpc: Option<u16>, http: Option<u16>) -> Result<()> {
    let draft = path.with_extension("draft");
    let line = |name: &str, port: Option<u16>| port.map(|port| format!("{name}={port}\n")).unwrap_or_default();
    std::fs::write(&draft, line("grpc", grpc) + &line("http", http)).map_err(|e| Error::from(e).at(draft.display()))?;
    std::fs::rename(&draft, path).map_err(|e| Error::from(e).at(path.display()))
}
