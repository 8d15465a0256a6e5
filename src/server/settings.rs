//! Every setting of the daemon, once: flags, environment, file and help are made from this table.

/// What a setting's text must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// true or false; the bare flag means true.
    Switch,
    /// A whole number.
    Number,
    /// A whole number, negative ones too.
    Signed,
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
    setting("port", Kind::Number, "8500", "gRPC port"),
    setting("grpc_socket_path", Kind::Text, "", "unix socket for gRPC too"),
    setting("rest_api_port", Kind::Number, "8501", "HTTP port: REST, /healthz, /readyz and /metrics")
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
    setting("ssl_config_file", Kind::Text, "", "text file that gives the gRPC port TLS (SSLConfig, PEM inside)"),
    setting("rest_ssl_config_file", Kind::Text, "", "the same for the HTTP port"),
    setting("tls_cert_file", Kind::Text, "", "PEM file of the certificates that ports without such a file show"),
    setting("tls_key_file", Kind::Text, "", "PEM file of the key to the first of them"),
    setting(
        "tls_client_ca_file",
        Kind::Text,
        "",
        "PEM file of those who sign clients' certificates; empty: none is asked for",
    ),
    setting("tls_client_certificates", Kind::Text, "required", "required, or optional: with one a client may do more"),
    setting(
        "max_connections",
        Kind::Number,
        "10000",
        "connections open at a time on each port; more are closed at once",
    ),
    setting("handshake_timeout_ms", Kind::Number, "10000", "milliseconds that a TLS handshake may take"),
    setting(
        "first_request_timeout_ms",
        Kind::Number,
        "30000",
        "milliseconds from a connection's start to the head of its first request",
    ),
    setting(
        "max_connection_idle_ms",
        Kind::Number,
        "300000",
        "milliseconds after which a connection without requests is closed; 0: never",
    ),
    setting(
        "max_connection_age_ms",
        Kind::Number,
        "0",
        "milliseconds, give or take a tenth, after which a connection is told to end; 0: never",
    ),
    setting(
        "max_connection_age_grace_ms",
        Kind::Number,
        "0",
        "milliseconds that its requests then may still run; 0: as long as they take",
    ),
    setting(
        "receive_timeout_ms",
        Kind::Number,
        "30000",
        "milliseconds that a gRPC message may take to come, and each further 256 KiB of it",
    ),
    setting(
        "send_timeout_ms",
        Kind::Number,
        "30000",
        "milliseconds that a client may take to take a reply, and each further 256 KiB of it; then its connection is closed; \
         0: any time",
    ),
    setting("keepalive_time_ms", Kind::Number, "60000", "milliseconds between pings over HTTP/2; 0: there are none"),
    setting("keepalive_timeout_ms", Kind::Number, "20000", "milliseconds that an answer to a ping may take"),
    setting("max_concurrent_streams", Kind::Number, "1000", "requests at a time on one connection of HTTP/2"),
    setting(
        "grpc_channel_arguments",
        Kind::Text,
        "",
        "gRPC's names for some of these, for scripts that use them: grpc.max_connection_age_ms=60000,…",
    ),
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
    setting(
        "padded_batch_bytes_max",
        Kind::Number,
        "67108864",
        "bytes of the inputs of a batch whose requests are padded to each other (pad_variable_length_inputs)",
    ),
    setting(
        "file_system_poll_wait_seconds",
        Kind::Signed,
        "1",
        "seconds between looks for new versions, beside those when the system tells of changes; 0: only one look; \
         negative: only when the system tells",
    ),
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
    setting(
        "device",
        Kind::Text,
        "auto",
        "auto, software, an index or part of a name from `coracle devices`; several of those, comma-separated, or all: they share \
         the load",
    ),
    setting(
        "lanes",
        Kind::Text,
        "1",
        "queues to open on each adapter, each with its own thread, or auto: as many as a measurement at the start finds to help",
    ),
    setting("in_flight", Kind::Number, "2", "submissions in flight on each lane, at least 2"),
    setting(
        "share_weights",
        Kind::Text,
        "auto",
        "one copy of weights for all lanes: auto (on software adapters, where a test at the start finds that it works), on \
         (also where nobody has tried it yet: integrated GPUs through Vulkan), off (a copy on each lane)",
    ),
    setting(
        "replay",
        Kind::Text,
        "auto",
        "how batches are replayed: recorded (once into a command buffer of Vulkan's, which each executes), encoded (anew for \
         each, through wgpu), auto (recorded on software adapters, where the test at the start finds that it works; GPUs' drivers were never tried)",
    ),
    setting(
        "lane_hang_ms",
        Kind::Number,
        "120000",
        "a device that does not finish its work for so long, in milliseconds, is given up and replaced; the second such ends the process",
    ),
    setting(
        "device_loss_max_ms",
        Kind::Number,
        "60000",
        "an adapter none of whose devices has worked for so long, in milliseconds, is given up; the last such ends the process",
    ),
    setting(
        "check_fraction",
        Kind::Fraction,
        "0.0",
        "the part of requests whose answers are computed again on the host, in spare time, to find devices that compute wrong; 0: none",
    ),
    setting(
        "check_time_max_ms",
        Kind::Number,
        "10000",
        "milliseconds that one such check may take; longer ones are skipped",
    ),
    setting("check_memory_bytes", Kind::Number, "1073741824", "memory that all such checks together may take"),
    setting(
        "check_queue_max",
        Kind::Number,
        "16",
        "answers that may wait to be checked; of more, the rest are skipped",
    ),
    setting(
        "fault_injection",
        Kind::Switch,
        "false",
        "let anybody break lanes by POST to /faults/lanes/N/lose, /hang, /corrupt, /starve and /feed: for tests only",
    ),
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
        "connection_memory_fraction",
        Kind::Fraction,
        "0.5",
        "the part of it that the requests of one connection may hold; 0: all",
    ),
    setting(
        "per_process_gpu_memory_fraction",
        Kind::Fraction,
        "0.0",
        "the part of the device's memory that models may use; 0: all",
    ),
    setting(
        "device_memory_bytes",
        Kind::Number,
        "0",
        "the device's memory; 0: what the driver tells, on software adapters the lesser of the machine's and the cgroup's",
    ),
    setting(
        "unload_idle_models",
        Kind::Switch,
        "false",
        "where device memory does not suffice, unload the models asked for least lately; a request loads them again",
    ),
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
        "new labels may stand for versions that are not available; else they do once those are",
    ),
    setting("reload_timeout_s", Kind::Number, "60", "seconds that HandleReloadConfigRequest waits for its models"),
    setting("admin_open", Kind::Switch, "false", "anybody may change the configuration over the wire"),
    setting(
        "admin_token_file",
        Kind::Text,
        "",
        "file of tokens, one a line, that let callers change the configuration; without it CORACLE_ADMIN_TOKEN",
    ),
    setting(
        "predict_token_file",
        Kind::Text,
        "",
        "the same for inference, which then needs one; without it CORACLE_PREDICT_TOKEN; neither: anybody may call",
    ),
    setting(
        "model_roots",
        Kind::Text,
        "",
        "folders below which models named over the wire must lie, comma-separated; empty: the parents of those at start",
    ),
    setting(
        "enable_model_warmup",
        Kind::Switch,
        "true",
        "replay the requests in a version's assets.extra before it serves",
    ),
    setting(
        "num_request_iterations_for_warmup",
        Kind::Number,
        "0",
        "how often each of those requests is replayed; 0: once",
    ),
    setting(
        "request_log_dir",
        Kind::Text,
        "",
        "folder for the requests that models' logging_config has written down; empty: none may be",
    ),
    setting(
        "request_log_max_bytes",
        Kind::Number,
        "1073741824",
        "bytes of one log of requests; when half is full, it takes the place of the half before",
    ),
    setting(
        "tensorflow_session_parallelism",
        Kind::Number,
        "0",
        "threads of the host side; 0: one for every two processors",
    ),
    setting("tensorflow_intra_op_parallelism", Kind::Number, "0", "the same"),
    setting("tensorflow_inter_op_parallelism", Kind::Number, "0", "the same"),
    setting("intra_op_parallelism_threads", Kind::Number, "0", "the same"),
    setting("inter_op_parallelism_threads", Kind::Number, "0", "the same"),
    setting("mixed_precision", Kind::Text, "", "bfloat16: as precision = f16"),
    setting(
        "lame_duck_ms",
        Kind::Number,
        "0",
        "milliseconds from being told to stop, and so not being ready, until new requests are refused",
    ),
    setting("drain_s", Kind::Number, "25", "seconds that running requests then get to finish"),
    setting("ports_file", Kind::Text, "", "file to write the ports to once requests are answered: grpc=…, http=…"),
    setting(
        "otlp_endpoint",
        Kind::Text,
        "",
        "http(s)://HOST:PORT of a collector that gets a span for each request, OTLP over gRPC; with a path such as /v1/traces \
         over HTTP. Headers for it: OTEL_EXPORTER_OTLP_HEADERS",
    ),
    setting(
        "otlp_sample_fraction",
        Kind::Fraction,
        "1.0",
        "the part of the requests without traceparent that are recorded; for the others their callers decide",
    ),
    setting("otlp_service_name", Kind::Text, "coracle", "what the collector calls this server"),
    setting("log_format", Kind::Text, "text", "text or json"),
    setting(
        "log_dir",
        Kind::Text,
        "",
        "folder for logs, a file for each day (UTC), the last seven kept; empty: standard error",
    ),
    setting("log_level", Kind::Text, "info", "error, warn, info, debug or trace, or a filter such as coracle=debug"),
];
