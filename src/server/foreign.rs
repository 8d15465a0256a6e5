//! Flags of TensorFlow Serving's server that mean nothing here: those that may be given all the same, and those that would
//! promise what is not kept.

use super::settings::Kind;
use super::values::truth;
use crate::error::{Error, Result};

/// One such flag.
pub(super) struct Foreign {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Its value when it is not given, which says nothing.
    default: &'static str,
    answer: Answer,
}

/// What is done when it is given another value.
enum Answer {
    Ignore(&'static str),
    Refuse(&'static str),
}

/// What becomes of a flag that was given.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It said nothing.
    Silent,
    /// It is passed over, for this reason.
    Ignored(&'static str),
}

const fn ignored(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Foreign {
    Foreign { name, kind, default, answer: Answer::Ignore(why) }
}

const fn refused(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Foreign {
    Foreign { name, kind, default, answer: Answer::Refuse(why) }
}

const NO_TENSORFLOW: &str = "networks do not run in TensorFlow's runtime";
const NO_TFLITE: &str = "TensorFlow Lite's models are not served; ONNX models are";

/// All of them.
pub(super) const FOREIGN: &[Foreign] = &[
    ignored("num_unload_threads", Kind::Number, "0", "versions are unloaded by whoever answers their last request"),
    ignored("flush_filesystem_caches", Kind::Switch, "true", "weights are read once and the system keeps its cache"),
    ignored("tensorflow_session_config_file", Kind::Text, "", NO_TENSORFLOW),
    refused(
        "platform_config_file",
        Kind::Text,
        "",
        "platforms are not configured; --batching_parameters_file takes the batching parameters",
    ),
    ignored("saved_model_tags", Kind::Text, "serve", "ONNX models have no tags"),
    refused("use_alts_credentials", Kind::Switch, "false", "Google's ALTS is not supported"),
    ignored("remove_unused_fields_from_bundle_metagraph", Kind::Switch, "true", NO_TENSORFLOW),
    refused("prefer_tflite_model", Kind::Switch, "false", NO_TFLITE),
    ignored("num_tflite_pools", Kind::Number, "0", NO_TFLITE),
    ignored("num_tflite_interpreters_per_pool", Kind::Number, "1", NO_TFLITE),
    ignored("xla_cpu_compilation_enabled", Kind::Switch, "false", "kernels are compiled by the adapter's driver"),
    ignored("xla_gpu_compilation_enabled", Kind::Switch, "false", "kernels are compiled by the adapter's driver"),
    ignored("enable_profiler", Kind::Switch, "true", "`coracle bench --profile` and --trace show where time goes"),
    ignored(
        "thread_pool_factory_config_file",
        Kind::Text,
        "",
        "--intra_op_parallelism_threads sets the host's threads",
    ),
    ignored("skip_initialize_tpu", Kind::Switch, "false", "there is no TPU to initialise"),
    ignored("enable_grpc_healthcheck_service", Kind::Switch, "false", "the health service always answers"),
];

/// What becomes of the flag `name` given as `value`.
///
/// # Errors
/// `INVALID_ARGUMENT` for values of another kind, `UNIMPLEMENTED` with a sentence for what is refused.
pub(super) fn foreign(name: &str, value: &str) -> Result<Fate> {
    let Some(flag) = FOREIGN.iter().find(|flag| flag.name == name) else {
        return Err(Error::internal(format!("--{name} is no flag")));
    };
    let expected = |what: &str| Error::invalid_argument(format!("--{name}: {name} is {value:?}, expected {what}"));
    let is_default = match flag.kind {
        Kind::Switch => truth(value).ok_or_else(|| expected("true or false"))?.to_string() == flag.default,
        Kind::Number | Kind::Signed | Kind::Fraction => {
            value.trim().parse::<f64>().map_err(|_| expected("a number"))?.to_string() == flag.default
        }
        Kind::Text => value == flag.default,
    };
    match &flag.answer {
        _ if is_default => Ok(Fate::Silent),
        Answer::Ignore(why) => Ok(Fate::Ignored(why)),
        Answer::Refuse(why) => Err(Error::unimplemented(format!("--{name}: {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::SETTINGS;
    use super::*;

    #[test]
    fn what_says_nothing_is_taken_and_what_promises_too_much_is_not() {
        assert_eq!(foreign("flush_filesystem_caches", "true").expect("its default"), Fate::Silent);
        assert!(matches!(foreign("flush_filesystem_caches", "false").expect("harmless"), Fate::Ignored(_)));
        assert_eq!(foreign("num_tflite_interpreters_per_pool", "1").expect("its default"), Fate::Silent);
        let error = foreign("use_alts_credentials", "true").expect_err("not kept");
        assert!(error.message().starts_with("--use_alts_credentials: "), "{error}");
        assert!(foreign("enable_profiler", "perhaps").is_err());
    }

    #[test]
    fn no_flag_is_both_ours_and_foreign() {
        for flag in FOREIGN {
            assert!(SETTINGS.iter().all(|setting| setting.name != flag.name), "{}", flag.name);
        }
    }
}
