//! The settings, understood.

use std::path::PathBuf;
use std::time::Duration;

use super::collector::Otlp;
use super::identity::Identities;
use super::limits::Limits;
use super::memory::{available_bytes, default_request_memory_bytes};
use super::model_file::{batching, models, read, roots};
use super::sealed::Sealed;
use super::values::Values;
use crate::api::config::metrics_path;
use crate::api::{Admin, JsonLimits, RestOptions};
use crate::batch::Policy;
use crate::engine::{
    EngineOptions, LaneCount, MemoryBound, MemoryTotal, Precision, Replay, ShareWeights, cache_folder,
};
use crate::error::{Error, Result};
use crate::model::{CheckOptions, ManagerOptions, ModelConfig, ReadParameters, ShapeBounds, Transition, check_logging};

/// Threads of the host at most.
const THREADS_MAX: usize = 1024;

/// Which state of the models makes the server ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    Any,
    All,
}

/// A file that is read again and again.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) path: PathBuf,
    /// The time between looks.
    pub(super) every: Duration,
    /// What it said, if it could be read.
    pub(super) text: Option<String>,
}

/// The settings, understood.
#[derive(Debug)]
pub(super) struct Config {
    /// `None`: no gRPC over TCP.
    pub(super) port: Option<u16>,
    /// `None`: no HTTP.
    pub(super) http_port: Option<u16>,
    /// A unix socket for gRPC.
    pub(super) socket: Option<PathBuf>,
    /// Threads of the host; `None`: one for each processor.
    pub(super) host_threads: Option<usize>,
    pub(super) host: String,
    pub(super) models: Vec<ModelConfig>,
    /// The file that names them, if it is to be followed.
    pub(super) followed: Option<Followed>,
    pub(super) admin: Admin,
    pub(super) limits: Limits,
    pub(super) identities: Identities,
    /// Files to be read again when they change.
    pub(super) sealed: Vec<Sealed>,
    /// How versions' own batching parameters are read, if they are.
    pub(super) own_parameters: Option<ReadParameters>,
    /// What models are due whose settings say nothing else.
    pub(super) policy: Policy,
    pub(super) tensor_content: bool,
    pub(super) check_method: bool,
    pub(super) rest: RestOptions,
    /// Where metrics are besides /metrics.
    pub(super) metrics_path: Option<String>,
    pub(super) grpc_requests_max: usize,
    pub(super) rest_requests_max: usize,
    pub(super) engine: EngineOptions,
    pub(super) manager: ManagerOptions,
    /// How often each request that comes with a version is replayed before it serves; 0: none is.
    pub(super) warm_up: usize,
    /// The folder that requests may be written to, and the bytes of one log.
    pub(super) request_log: Option<(PathBuf, u64)>,
    /// Which answers are computed again on the host, if any.
    pub(super) checks: Option<CheckOptions>,
    pub(super) shapes: ShapeBounds,
    pub(super) strict_paths: bool,
    pub(super) request_memory_bytes: u64,
    /// The part of it that the requests of one connection may hold.
    pub(super) connection_fraction: f64,
    pub(super) max_message_bytes: usize,
    pub(super) receive_timeout: Duration,
    pub(super) ready: Ready,
    /// From being told to stop to refusing requests.
    pub(super) lame_duck: Duration,
    pub(super) drain: Duration,
    /// Lanes may be broken over HTTP.
    pub(super) faults: bool,
    pub(super) ports_file: Option<PathBuf>,
    /// Where spans go.
    pub(super) otlp: Option<Otlp>,
    pub(super) json_log: bool,
    pub(super) log_level: String,
    /// `None`: standard error.
    pub(super) log_folder: Option<PathBuf>,
}

/// Takes note of what is wrong, so that all of it can be told at once.
#[derive(Default)]
struct Wrong(Vec<Error>);

impl Wrong {
    fn all<T: Default>(&mut self, read: Result<T, Vec<Error>>) -> T {
        read.unwrap_or_else(|errors| {
            self.0.extend(errors);
            T::default()
        })
    }

    fn one<T: Default>(&mut self, read: Result<T>) -> T {
        self.all(read.map_err(|e| vec![e]))
    }
}

impl Values {
    /// The settings, understood.
    ///
    /// # Errors
    /// Every mistake, naming the setting, where it is set, and what was expected.
    pub(super) fn understand(&self) -> Result<Config, Vec<Error>> {
        let mut wrong = Wrong::default();
        let request_memory_bytes = match wrong.one(self.number("request_memory_bytes")) {
            0 => default_request_memory_bytes(),
            bytes => bytes,
        };
        let seconds = |wrong: &mut Wrong, name: &str| Duration::from_secs(wrong.one(self.number(name)));
        let follow = seconds(&mut wrong, "model_config_file_poll_wait_seconds");
        let words = |name| self.text(name).split(',').map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned);
        let batching = wrong.one(batching(self));
        // Read before the models are: what is written meanwhile is taken up later.
        let followed = self.path("model_config_file").filter(|_| !follow.is_zero());
        let followed = followed.map(|path| Followed { text: read(&path).ok(), path, every: follow });
        let models = wrong.all(models(self, batching.as_ref()));
        wrong.one(check_logging(&models, self.path("request_log_dir").is_some()));
        let (port, http_port) = (wrong.one(self.number("port")), wrong.one(self.number("rest_api_port")));
        // As TensorFlow Serving's, port 0 is no port.
        let open = |port: u16| Some(port).filter(|port| *port > 0 || !self.is_tensorflow);
        let (port, socket) = (open(port), self.path("grpc_socket_path"));
        if port.is_none() && socket.is_none() {
            wrong.0.push(Error::invalid_argument("port is 0 and there is no grpc_socket_path, expected one of them"));
        }
        let (access, mut sealed) = wrong.all(self.access(|name| std::env::var(name).ok()));
        let identities = wrong.all(self.identities());
        sealed.extend(identities.sealed());
        let admin = Admin {
            open: self.switch("admin_open"),
            access,
            roots: wrong.one(roots(self, &models)),
            timeout: seconds(&mut wrong, "reload_timeout_s"),
            batching,
        };
        let config = Config {
            port,
            http_port: open(http_port),
            socket,
            host_threads: wrong.one(self.host_threads()),
            host: self.text("host").to_owned(),
            models,
            followed,
            admin,
            limits: wrong.one(self.limits()),
            identities,
            sealed,
            own_parameters: (self.switch("enable_batching") && self.switch("enable_per_model_batching_parameters"))
                .then_some(crate::api::config::batching_parameters as ReadParameters),
            policy: self.policy(&mut wrong),
            tensor_content: self.switch("enable_serialization_as_tensor_content"),
            check_method: self.switch("enable_signature_method_name_check"),
            rest: self.rest(&mut wrong),
            metrics_path: wrong.one(self.metrics_path()),
            grpc_requests_max: wrong.one(self.number("grpc_max_threads")),
            rest_requests_max: wrong.one(self.number("rest_api_num_threads")),
            engine: EngineOptions {
                device: self.text("device").to_owned(),
                lanes: wrong.one(self.lanes()).unwrap_or(LaneCount::Exactly(1)),
                first_lane: 0,
                in_flight: wrong.one(self.number::<usize>("in_flight")).clamp(2, 1024),
                without: words("without").collect(),
                with: words("with").collect(),
                family: Some(self.text("family").to_owned()).filter(|f| !f.is_empty()),
                memory: wrong.one(self.device_memory()),
                precision: wrong.one(self.precision()),
                tune: wrong.one(self.text("tune").parse()),
                cache: cache_folder(self.text("cache_dir")),
                checked_kernels: self.switch("checked_kernels"),
                share_weights: wrong.one(self.share_weights()),
                replay: wrong.one(self.replay()),
                hang_time: Duration::from_millis(wrong.one(self.number::<u32>("lane_hang_ms")).max(1).into()),
                loss_time: Duration::from_millis(wrong.one(self.number::<u32>("device_loss_max_ms")).max(1).into()),
            },
            manager: self.manager(&mut wrong),
            warm_up: self.warm_up(&mut wrong),
            request_log: wrong.one(self.request_log()),
            checks: wrong.one(self.checks()),
            shapes: ShapeBounds {
                per_minute_max: wrong.one(self.number("max_shapes_per_model")),
                ..ShapeBounds::default()
            },
            strict_paths: self.switch("strict_paths"),
            request_memory_bytes,
            connection_fraction: Some(wrong.one(self.number::<f64>("connection_memory_fraction")))
                .filter(|fraction| *fraction > 0.0)
                .unwrap_or(1.0),
            max_message_bytes: wrong.one(self.number::<u32>("max_message_bytes")) as usize,
            receive_timeout: Duration::from_millis(wrong.one(self.number::<u32>("receive_timeout_ms")).into()),
            ready: if wrong.one(self.one_of("ready", &["any", "all"])) == 0 { Ready::Any } else { Ready::All },
            lame_duck: Duration::from_millis(wrong.one(self.number("lame_duck_ms"))),
            drain: seconds(&mut wrong, "drain_s"),
            faults: self.switch("fault_injection"),
            ports_file: self.path("ports_file"),
            otlp: wrong.one(self.otlp(|name| std::env::var(name).ok())),
            json_log: wrong.one(self.one_of("log_format", &["text", "json"])) == 1,
            log_level: self.text("log_level").to_owned(),
            log_folder: self.path("log_dir"),
        };
        if wrong.0.is_empty() { Ok(config) } else { Err(wrong.0) }
    }

    fn rest(&self, wrong: &mut Wrong) -> RestOptions {
        RestOptions {
            timeout: Duration::from_millis(wrong.one(self.number::<u32>("rest_api_timeout_in_ms")).into()),
            cors: self.switch("rest_api_enable_cors_support"),
            max_body_bytes: self.number::<u32>("max_message_bytes").unwrap_or_default() as usize,
            gzip_min_bytes: wrong.one(self.number("rest_api_gzip_min_bytes")),
            check_method: self.switch("enable_signature_method_name_check"),
            limits: JsonLimits {
                depth_max: wrong.one(self.number("rest_api_json_depth")),
                elements_max: wrong.one(self.number("rest_api_json_elements")),
            },
        }
    }

    fn policy(&self, wrong: &mut Wrong) -> Policy {
        let padded_bytes_max = wrong.one(self.number("padded_batch_bytes_max"));
        let mut millis = |name| Duration::from_millis(wrong.one(self.number::<u32>(name)).into());
        Policy {
            padded_bytes_max,
            latency_target: Some(millis("latency_target_ms")).filter(|target| !target.is_zero()),
            batch_time_max: millis("batch_time_max_ms"),
            priority_wait_max: millis("priority_wait_max_ms"),
            ..Policy::default()
        }
    }

    fn metrics_path(&self) -> Result<Option<String>> {
        let Some(path) = self.path("monitoring_config_file") else { return Ok(None) };
        let text = std::fs::read_to_string(&path).map_err(|e| Error::from(e).at(path.display()))?;
        metrics_path(&text, &path.display().to_string())
    }

    fn manager(&self, wrong: &mut Wrong) -> ManagerOptions {
        let poll: i64 = wrong.one(self.number("file_system_poll_wait_seconds"));
        ManagerOptions {
            poll_interval: u64::try_from(poll).ok().map(Duration::from_secs).filter(|d| !d.is_zero()),
            // Zero means that the folders are read once, whatever happens in them.
            watch: poll != 0,
            load_threads: self.load_threads(wrong),
            load_retries_max: wrong.one(self.number("max_num_load_retries")),
            load_retry_interval: Duration::from_micros(wrong.one(self.number("load_retry_interval_micros"))),
            settle: Duration::from_millis(wrong.one(self.number("version_settle_ms"))),
            transition: match wrong.one(self.one_of("version_transition", &["keep_serving", "save_memory"])) {
                0 => Transition::KeepServing,
                _ => Transition::SaveMemory,
            },
            lenient_labels: self.switch("allow_version_labels_for_unavailable_models"),
            unload_idle: self.switch("unload_idle_models"),
            logs_requests: self.path("request_log_dir").is_some(),
        }
    }

    fn warm_up(&self, wrong: &mut Wrong) -> usize {
        let iterations: usize = wrong.one(self.number("num_request_iterations_for_warmup"));
        if self.switch("enable_model_warmup") { iterations.max(1) } else { 0 }
    }

    fn request_log(&self) -> Result<Option<(PathBuf, u64)>> {
        let Some(folder) = self.path("request_log_dir") else { return Ok(None) };
        if !folder.is_dir() {
            return Err(self.wrong("request_log_dir", "a folder"));
        }
        Ok(Some((folder, self.number("request_log_max_bytes")?)))
    }

    fn checks(&self) -> Result<Option<CheckOptions>> {
        let options = CheckOptions {
            fraction: self.number("check_fraction")?,
            time_max: Duration::from_millis(self.number::<u32>("check_time_max_ms")?.into()),
            bytes_max: self.number("check_memory_bytes")?,
            queued_max: self.number::<u16>("check_queue_max")?.into(),
        };
        Ok(Some(options).filter(|options| options.fraction > 0.0))
    }

    fn load_threads(&self, wrong: &mut Wrong) -> usize {
        // TensorFlow Serving's name for it, whose 0 says nothing.
        let theirs: usize = wrong.one(self.number("num_load_threads"));
        let ours: usize = wrong.one(self.number("load_threads"));
        if theirs > 0 { theirs } else { ours.max(1) }
    }

    /// The largest of the numbers of threads given.
    fn host_threads(&self) -> Result<Option<usize>> {
        const SESSION: &str = "tensorflow_session_parallelism";
        const SPLIT: [&str; 2] = ["tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"];
        let numbers = |names: &[&str]| names.iter().map(|n| self.number(n)).collect::<Result<Vec<usize>>>();
        let (session, split) = (numbers(&[SESSION])?, numbers(&SPLIT)?);
        if session[0] > 0 && split.iter().all(|n| *n > 0) {
            let expected = format!("it alone, or {} and {}", SPLIT[0], SPLIT[1]);
            return Err(self.wrong(SESSION, &expected));
        }
        let plain = numbers(&["intra_op_parallelism_threads", "inter_op_parallelism_threads"])?;
        Ok(session.into_iter().chain(split).chain(plain).max().filter(|n| *n > 0).map(|n| n.min(THREADS_MAX)))
    }

    /// How much device memory there is and which part of it models may take.
    fn device_memory(&self) -> Result<MemoryBound> {
        let total = match self.number("device_memory_bytes")? {
            0 => MemoryTotal::Adapter { host_bytes: available_bytes() },
            bytes => MemoryTotal::Bytes(bytes),
        };
        let fraction: f64 = self.number("per_process_gpu_memory_fraction")?;
        Ok(MemoryBound { total, fraction: Some(fraction).filter(|f| *f > 0.0) })
    }

    fn lanes(&self) -> Result<Option<LaneCount>> {
        self.text("lanes").trim().parse().map(Some).map_err(|_| self.wrong("lanes", "auto, or a number from 1 to 64"))
    }

    fn replay(&self) -> Result<Replay> {
        self.text("replay").parse().map_err(|_| self.wrong("replay", "auto, recorded or encoded"))
    }

    fn share_weights(&self) -> Result<ShareWeights> {
        self.text("share_weights").parse().map_err(|_| self.wrong("share_weights", "auto, on or off"))
    }

    fn precision(&self) -> Result<Precision> {
        match self.one_of("mixed_precision", &["", "bfloat16"])? {
            1 if !self.is_given("precision") => Ok(Precision::F16),
            _ => self.text("precision").parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::ServeArgs;
    use super::*;

    #[test]
    fn flags_win_over_variables_over_the_file_over_defaults() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("coracle.toml");
        std::fs::write(&path, "port = 1\nlanes = 3\nhost = \"::1\"\nmodel_base_path = \"/m\"").expect("writable");
        let mut args = ServeArgs { file: Some(path.display().to_string()), ..ServeArgs::default() };
        args.given.insert("port", "3".into());
        let variable = |name: &str| match name {
            "CORACLE_PORT" => Some("2".to_owned()),
            "CORACLE_LANES" => Some("2".to_owned()),
            _ => None,
        };
        let values = Values::collect(&args, variable).expect("known settings");
        let config = values.understand().expect("right values");
        assert_eq!((config.port, config.engine.lanes, config.host.as_str()), (Some(3), LaneCount::Exactly(2), "::1"));
        assert_eq!(config.http_port, Some(8501));
        // What is printed is a file that says the same.
        std::fs::write(&path, values.to_toml()).expect("writable");
        let again = ServeArgs { file: Some(path.display().to_string()), ..ServeArgs::default() };
        let again = Values::collect(&again, |_| None).expect("known settings").understand().expect("right values");
        assert_eq!((again.port, again.engine.lanes), (Some(3), LaneCount::Exactly(2)));
        // Variables spell switches as they like; files do not.
        let variable = |name: &str| (name == "CORACLE_ENABLE_BATCHING").then(|| "No".to_owned());
        let text = Values::collect(&ServeArgs::default(), variable).expect("a switch").to_toml();
        assert_eq!(text.parse::<toml::Table>().expect("TOML")["enable_batching"].as_bool(), Some(false));
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("coracle.toml").display().to_string();
        std::fs::write(&path, "prot = 1\n\nin_flight = \"many\"\n").expect("writable");
        let mut args = ServeArgs { file: Some(path.clone()), ..ServeArgs::default() };
        args.foreign.insert("use_alts_credentials", "true".into());
        let variable = |name: &str| (name == "CORACLE_PORT").then(|| "none".to_owned());
        let told = |errors: Vec<Error>| errors.iter().map(|e| e.message().to_owned()).collect::<Vec<_>>();
        assert_eq!(
            told(Values::collect(&args, variable).expect_err("four mistakes")),
            [
                format!("{path}:1: there is no setting \"prot\""),
                "CORACLE_PORT: port is \"none\", expected a number in range".to_owned(),
                format!("{path}:3: in_flight is \"many\", expected a number in range"),
                "--use_alts_credentials: Google's ALTS is not supported".to_owned(),
            ]
        );
        std::fs::write(&path, "port = 70000\nready = \"some\"\n").expect("writable");
        let args = ServeArgs { file: Some(path.clone()), ..ServeArgs::default() };
        let values = Values::collect(&args, |_| None).expect("known settings");
        assert_eq!(
            told(values.understand().expect_err("three mistakes")),
            [
                "no model is named, expected model_base_path or model_config_file".to_owned(),
                format!("{path}:1: port is \"70000\", expected a number in range"),
                format!("{path}:2: ready is \"some\", expected any or all"),
            ]
        );
    }

    #[test]
    fn under_tensorflow_servings_name_its_defaults_hold() {
        let mut args = ServeArgs { is_tensorflow: true, ..ServeArgs::default() };
        for (name, value) in [("model_base_path", "/m"), ("tensorflow_intra_op_parallelism", "8")] {
            args.given.insert(name, value.into());
        }
        let config = Values::collect(&args, |_| None).expect("known").understand().expect("right");
        assert_eq!((config.port, config.http_port, config.host_threads), (Some(8500), None, Some(8)));
        assert!(config.models[0].batching.is_none(), "batching is off");
        for name in ["tensorflow_session_parallelism", "tensorflow_inter_op_parallelism"] {
            args.given.insert(name, "2".into());
        }
        let errors = Values::collect(&args, |_| None).expect("known").understand().expect_err("all three");
        assert!(errors[0].message().contains("expected it alone"), "{errors:?}");
    }
}
