//! HandleReloadConfigRequest: another configuration over the wire.

use std::collections::BTreeSet;

use super::model_entry::{Entry, understood};
use super::proto::serving::metric::ValueIncrease;
use super::proto::serving::{Metric, ReloadConfigRequest, ReloadConfigResponse, StatusProto};
use crate::api::admin::Admin;
use crate::error::{Error, Result};
use crate::model::Manager;

/// Takes up what `request` says, for a caller who may. Each model is applied by itself: the reply's status is that of the first
/// that failed, with a line for each.
///
/// # Errors
/// `INVALID_ARGUMENT` or `PERMISSION_DENIED` for a configuration that is wrong as a whole; then nothing changes.
pub(super) async fn reload(
    manager: &Manager,
    admin: &Admin,
    request: ReloadConfigRequest,
) -> Result<ReloadConfigResponse> {
    let metric = increases(&request.metric_names);
    let list = request.config.and_then(|config| config.model_config_list).ok_or_else(|| {
        Error::invalid_argument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported",
        )
    })?;
    let entries = list.config.into_iter().map(Entry::from).collect();
    let mut configs = understood(entries, |_| String::new()).map_err(together)?;
    admin.check_paths(&configs)?;
    for config in &mut configs {
        config.batching.clone_from(&admin.batching);
    }
    let count = configs.len();
    let failures = manager.reload(configs, admin.timeout).await?;
    tracing::info!(models = count, failed = failures.len(), "another configuration was taken up over the wire");
    let status = match failures.first() {
        None => StatusProto::default(),
        Some((_, first)) => {
            let lines: Vec<_> = failures.iter().map(|(name, error)| format!("{name}: {error}")).collect();
            StatusProto { error_code: first.code() as i32, error_message: lines.join("\n") }
        }
    };
    Ok(ReloadConfigResponse { status: Some(status), metric })
}

/// A metric for each name asked for, once. TensorFlow Serving tells how much counters of the process have grown meanwhile, and 0
/// for those that it has not: its own names are none of ours.
fn increases(names: &[String]) -> Vec<Metric> {
    let distinct: BTreeSet<&String> = names.iter().collect();
    let metric =
        |name: &String| Metric { name: name.clone(), value_increase: Some(ValueIncrease::Int64ValueIncrease(0)) };
    distinct.into_iter().map(metric).collect()
}

/// Several mistakes as one error, a line for each.
fn together(errors: Vec<Error>) -> Error {
    let lines: Vec<_> = errors.iter().map(Error::message).collect();
    Error::invalid_argument(lines.join("\n"))
}
