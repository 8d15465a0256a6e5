//! The states of a model's versions, and which models there are.

use super::json::write_string;
use super::reply::Reply;
use crate::error::{Code, Result};
use crate::model::{Board, Manager, Status, VersionChoice};

/// A model's versions, highest first, or one of them. A label in the path says nothing, as in TensorFlow Serving.
///
/// # Errors
/// `NOT_FOUND` when nothing is known of the model or the version.
pub(super) fn status(manager: &Manager, model: &str, version: &VersionChoice) -> Result<Reply> {
    let version = match version {
        VersionChoice::Specific(version) => Some(*version),
        VersionChoice::Latest | VersionChoice::Label(_) => None,
    };
    let versions = manager.status(model, version)?;
    let mut out = b"{\"model_version_status\":".to_vec();
    write_versions(versions.iter().map(|(version, status)| (*version, status)), &mut out);
    out.push(b'}');
    Ok(Reply::json(out))
}

/// Every configured model with its versions, highest first: an extension.
pub(super) fn list(board: &Board) -> Reply {
    let mut out = b"{\"models\":[".to_vec();
    for (i, (name, model)) in board.models.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",{\"name\":" } else { b"{\"name\":" });
        write_string(name, &mut out);
        out.extend_from_slice(b",\"model_version_status\":");
        write_versions(model.versions.iter().rev().map(|(version, status)| (*version, status)), &mut out);
        if let Some(error) = &model.error {
            out.extend_from_slice(b",\"error\":");
            write_string(error.message(), &mut out);
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    Reply::json(out)
}

/// Numbers of 64 bits are strings, as in protocol buffers' JSON.
fn write_versions<'a>(versions: impl Iterator<Item = (i64, &'a Status)>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, (version, status)) in versions.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let (code, message) = match &status.error {
            None => ("OK", ""),
            Some(error) => (Code::name(error.code()), error.message()),
        };
        let state = status.state.name();
        let line = format!(
            "{{\"version\":\"{version}\",\"state\":\"{state}\",\"status\":{{\"error_code\":\"{code}\",\"error_message\":"
        );
        out.extend_from_slice(line.as_bytes());
        write_string(message, out);
        out.extend_from_slice(b"}}");
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::model::{ModelStatus, State};

    #[test]
    fn models_are_listed_with_their_versions() {
        let status = |state, error: Option<Error>| Status { state, error, idle: false };
        let versions =
            [(2, status(State::End, Some(Error::data_loss("a \"bad\" file")))), (10, status(State::Available, None))];
        let model = ModelStatus { versions: versions.into(), ..ModelStatus::default() };
        let board = Board { models: [("m".into(), model)].into(), is_configured: true };
        assert_eq!(
            list(&board).body,
            r#"{"models":[{"name":"m","model_version_status":[{"version":"10","state":"AVAILABLE","status":{"error_code":"OK","error_message":""}},{"version":"2","state":"END","status":{"error_code":"DATA_LOSS","error_message":"a \"bad\" file"}}]}]}"#
        );
    }
}
