//! Every setting of the daemon, once: flags, environment, file and help are made from this table.

/// What a setting's text must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// true or false; the bare flag means true.
    Switch,
    /// A whole number.
    Number,
    /// A number between 0 and 1.
    Fraction,
    /// Anything.
    Text,
}

/// One setting.
#[derive(Debug)]
pub(super) struct Setting {
    /// Its flag, its key in the file, and, in capitals after `CORACLE_`, its variable.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: &'static str,
    pub(super) help: &'static str,
    /// The default under TensorFlow Serving's name, where it is another.
    pub(super) tensorflow: Option<&'static str>,
}

const fn setting(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Setting {
    Setting { name, kind, default, help, tensorflow: None }
}

impl Setting {
    const fn under_tensorflow(mut self, default: &'static str) -> Self {
        self.tensorflow = Some(default);
        self
    }
}

/// All settings in the order in which they are shown.
pub(super) const SETTINGS: &[Setting] = &[
    setting("port", Kind::Number, "8500", "gRPC port; 0 picks a free one"),
    setting("grpc_socket_path", Kind::Text, "", "unix socket for gRPC too"),
    setting(
        "rest_api_port",
        Kind::Number,
        "8501",
        "HTTP port: REST, /healthz, /readyz and /metrics; 0 picks a free one",
    )
    .under_tensorflow("0"),
    setting("rest_api_timeout_in_ms", Kind::Number, "30000", "longest that a REST request takes, in milliseconds"),
    setting("rest_api_num_threads", Kind::Number, "0", "REST requests answered at a time; 0: any number"),
    setting("grpc_max_threads", Kind::Number, "0", "gRPC requests answered at a time; 0: any number"),
    setting("rest_api_enable_cors_support", Kind::Switch, "false", "let web pages of other origins call the REST API"),
    setting(
        "rest_api_gzip_min_bytes",
        Kind::Number,
        "4096",
        "REST replies from this size on are compressed for those who take gzip; 0: none is",
    ),
    setting(
        "monitoring_config_file",
        Kind::Text,
        "",
        "text file that says where metrics are besides /metrics (MonitoringConfig)",
    ),
    setting("rest_api_json_depth", Kind::Number, "64", "lists and objects inside each other in a REST request"),
    setting("rest_api_json_elements", Kind::Number, "268435456", "elements of one tensor in a REST request's JSON"),
    setting("host", Kind::Text, "", "address to listen on; empty: every interface, IPv6 and IPv4"),
    setting("model_name", Kind::Text, "default", "name of the one model that model_base_path holds"),
    setting("model_base_path", Kind::Text, "", "folder of the one model: BASE/VERSION/model.onnx"),
    setting("model_config_file", Kind::Text, "", "file of several models: ModelServerConfig as text, or JSON"),
    setting(
        "model_config_file_poll_wait_seconds",
        Kind::Number,
        "0",
        "seconds between looks at that file; 0: never again",
    ),
    setting("enable_batching", Kind::Switch, "true", "merge requests into batches where rows are proven independent")
        .under_tensorflow("false"),
    setting("batching_parameters_file", Kind::Text, "", "text file that tunes batching (BatchingParameters)"),
    setting(
        "enable_per_model_batching_parameters",
        Kind::Switch,
        "false",
        "batching_params.pbtxt in a version's folder tunes its batching; without it its requests are not merged",
    ),
    setting(
        "latency_target_ms",
        Kind::Number,
        "0",
        "refuse requests that would be answered later than so many milliseconds after they came; 0: none",
    ),
    setting(
        "batch_time_max_ms",
        Kind::Number,
        "250",
        "cut batches to so many milliseconds of measured device time, one of the smallest size at least",
    ),
    setting(
        "priority_wait_max_ms",
        Kind::Number,
        "250",
        "milliseconds, a step of priority, that requests wait only because more urgent ones came later",
    ),
    setting("file_system_poll_wait_seconds", Kind::Number, "1", "seconds between looks for new versions; 0: never"),
    setting(
        "enable_serialization_as_tensor_content",
        Kind::Switch,
        "false",
        "reply with tensor_content instead of the typed fields that most clients read",
    ),
    setting(
        "enable_signature_method_name_check",
        Kind::Switch,
        "false",
        "Classify and Regress take signatures of their own method only",
    ),
    setting("device", Kind::Text, "auto", "auto, software, an index or part of a name from `coracle devices`"),
    setting("lanes", Kind::Number, "1", "queues to open on the adapter, each with its own thread"),
    setting("in_flight", Kind::Number, "2", "submissions in flight on each lane, at least 2"),
    setting(
        "without",
        Kind::Text,
        "",
        "adapter features to do without: subgroups, f16, int64, f64, matrices, comma-separated",
    ),
    setting("with", Kind::Text, "", "features to use although not seen to work with this driver: matrices"),
    setting("family", Kind::Text, "auto", "kernels to use whatever the adapter's kind: auto, software, gpu"),
    setting(
        "precision",
        Kind::Text,
        "auto",
        "how floats are stored unless a model's settings say: auto (as the model has them), f32, or f16 where the adapter can",
    ),
    setting(
        "tune",
        Kind::Text,
        "cached",
        "how kernels are chosen: off, cached, or load (measured when models are loaded)",
    ),
    setting(
        "cache_dir",
        Kind::Text,
        "",
        "folder for measured choices and compiled kernels, or none; empty: coracle in the user's cache folder",
    ),
    setting(
        "checked_kernels",
        Kind::Switch,
        "false",
        "keep the driver's checks of indices and loops in kernels: slower",
    ),
    setting("max_shapes_per_model", Kind::Number, "64", "new input shapes compiled for a model in one minute"),
    setting(
        "request_memory_bytes",
        Kind::Number,
        "0",
        "memory that all requests together may hold; 0: the lesser of 4 GiB and a quarter of the machine's or cgroup's",
    ),
    setting(
        "per_process_gpu_memory_fraction",
        Kind::Fraction,
        "0.0",
        "the part of device_memory_bytes, or else of the machine's or cgroup's memory, that models may use; 0: all",
    ),
    setting("device_memory_bytes", Kind::Number, "0", "device memory that all models together may use; 0: no bound"),
    setting("max_message_bytes", Kind::Number, "2147483647", "largest request message, inflated"),
    setting("ready", Kind::Text, "any", "when /readyz says yes: any model is available, or all are"),
    setting("strict_paths", Kind::Switch, "false", "refuse weight files whose links lead out of the model's folder"),
    setting("load_threads", Kind::Number, "2", "versions loaded at a time"),
    setting("num_load_threads", Kind::Number, "0", "the same, as TensorFlow Serving calls it; 0: load_threads"),
    setting("max_num_load_retries", Kind::Number, "5", "how often a load that failed on reading files is tried again"),
    setting("load_retry_interval_micros", Kind::Number, "1000000", "microseconds between such tries")
        .under_tensorflow("60000000"),
    setting("version_settle_ms", Kind::Number, "1000", "how long a version's files must be unchanged before it counts"),
    setting(
        "version_transition",
        Kind::Text,
        "keep_serving",
        "keep_serving: old versions serve until new ones do; save_memory: they are unloaded first",
    ),
    setting(
        "allow_version_labels_for_unavailable_models",
        Kind::Switch,
        "false",
        "reloading may give labels to versions that are not available",
    ),
    setting("reload_timeout_s", Kind::Number, "60", "seconds that HandleReloadConfigRequest waits for its models"),
    setting("admin_open", Kind::Switch, "false", "anybody may change the configuration over the wire"),
    setting(
        "admin_token_file",
        Kind::Text,
        "",
        "file with the token that lets callers change the configuration; without it CORACLE_ADMIN_TOKEN",
    ),
    setting(
        "model_roots",
        Kind::Text,
        "",
        "folders below which models named over the wire must lie, comma-separated; empty: the parents of those at start",
    ),
    setting("tensorflow_session_parallelism", Kind::Number, "0", "threads of the host side; 0: one for each processor"),
    setting("tensorflow_intra_op_parallelism", Kind::Number, "0", "the same"),
    setting("tensorflow_inter_op_parallelism", Kind::Number, "0", "the same"),
    setting("intra_op_parallelism_threads", Kind::Number, "0", "the same"),
    setting("inter_op_parallelism_threads", Kind::Number, "0", "the same"),
    setting("mixed_precision", Kind::Text, "", "bfloat16: as precision = f16"),
    setting("drain_s", Kind::Number, "25", "seconds that running requests get to finish at the end"),
    setting("ports_file", Kind::Text, "", "file to write the ports to once requests are answered: grpc=…, http=…"),
    setting("log_format", Kind::Text, "text", "text or json, on standard error"),
    setting("log_level", Kind::Text, "info", "error, warn, info, debug or trace, or a filter such as coracle=debug"),
];
