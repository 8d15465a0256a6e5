//! Every setting of the daemon, once: flags, environment, file and help are made from this table.

/// What a setting's text must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// true or false; the bare flag means true.
    Switch,
    /// A whole number.
    Number,
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
}

const fn setting(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Setting {
    Setting { name, kind, default, help }
}

/// All settings in the order in which they are shown.
pub(super) const SETTINGS: &[Setting] = &[
    setting("port", Kind::Number, "8500", "gRPC port; 0 picks a free one"),
    setting(
        "rest_api_port",
        Kind::Number,
        "8501",
        "HTTP port: REST, /healthz, /readyz and /metrics; 0 picks a free one",
    ),
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
    setting("model_config_file", Kind::Text, "", "text file of several models (ModelServerConfig)"),
    setting("enable_batching", Kind::Switch, "true", "merge requests into batches where rows are proven independent"),
    setting("batching_parameters_file", Kind::Text, "", "text file that tunes batching (BatchingParameters)"),
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
    setting("without", Kind::Text, "", "adapter features to do without: subgroups, f16, comma-separated"),
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
    setting("device_memory_bytes", Kind::Number, "0", "device memory that all models together may use; 0: no bound"),
    setting("max_message_bytes", Kind::Number, "2147483647", "largest request message, inflated"),
    setting("ready", Kind::Text, "any", "when /readyz says yes: any model is available, or all are"),
    setting("strict_paths", Kind::Switch, "false", "refuse weight files whose links lead out of the model's folder"),
    setting("load_threads", Kind::Number, "2", "versions loaded at a time"),
    setting("drain_s", Kind::Number, "25", "seconds that running requests get to finish at the end"),
    setting("ports_file", Kind::Text, "", "file to write the ports to once requests are answered: grpc=…, http=…"),
    setting("log_format", Kind::Text, "text", "text or json, on standard error"),
    setting("log_level", Kind::Text, "info", "error, warn, info, debug or trace, or a filter such as coracle=debug"),
];
