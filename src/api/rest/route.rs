//! A method and a path → what is asked of which model.
//!
//! Paths are read without regard to case, as TensorFlow Serving does; the query is not part of them.

use http::Method;

use crate::error::{Error, Result};
use crate::model::VersionChoice;

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The names of all models, and their versions.
    List,
    /// The states of a model's versions.
    Status,
    /// A version's signatures.
    Metadata,
    /// How a version's requests were batched.
    Batching,
    /// Tensors in, tensors out.
    Predict,
    /// Examples in, labels out.
    Classify,
    /// Examples in, numbers out.
    Regress,
}

impl Action {
    /// As metrics name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Action::List => "ListModels",
            Action::Status => "GetModelStatus",
            Action::Metadata => "GetModelMetadata",
            Action::Batching => "GetBatching",
            Action::Predict => "Predict",
            Action::Classify => "Classify",
            Action::Regress => "Regress",
        }
    }
}

/// A request's line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) action: Action,
    /// Empty for [`Action::List`] only.
    pub(super) model: String,
    pub(super) version: VersionChoice,
}

/// Whether a path belongs to this API at all.
pub(super) fn is_ours(path: &str) -> bool {
    strip(path, "/v1/").is_some()
}

/// What `method` at `path` asks for.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is no request of this API, with TensorFlow Serving's texts.
pub(super) fn route(method: &Method, path: &str) -> Result<Route> {
    let malformed = || Error::invalid_argument(format!("Malformed request: {method} {path}"));
    let rest = strip(path, "/v1/models").ok_or_else(malformed)?;
    // A name holds neither `/` nor `:`, so the first `:` ends the path of a call.
    let (place, action) = if *method == Method::POST {
        let (place, verb) = rest.split_once(':').ok_or_else(malformed)?;
        let verbs = [Action::Predict, Action::Classify, Action::Regress];
        (place, verbs.into_iter().find(|action| verb.eq_ignore_ascii_case(action.name())).ok_or_else(malformed)?)
    } else if *method == Method::GET || *method == Method::HEAD {
        if rest.is_empty() {
            return Ok(Route { action: Action::List, model: String::new(), version: VersionChoice::Latest });
        }
        [("/metadata", Action::Metadata), ("/batching", Action::Batching)]
            .into_iter()
            .find_map(|(end, action)| strip_end(rest, end).filter(|place| !place.is_empty()).map(|p| (p, action)))
            .unwrap_or((rest, Action::Status))
    } else {
        return Err(malformed());
    };
    let place = place.strip_prefix('/').ok_or_else(malformed)?;
    if place.contains(':') {
        return Err(malformed());
    }
    let mut parts = place.split('/');
    let (name, kind, choice) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if parts.next().is_some() || kind.is_some() != choice.is_some() {
        return Err(malformed());
    }
    let version = match (kind, choice) {
        (Some(kind), Some(number)) if kind.eq_ignore_ascii_case("versions") => {
            if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
                return Err(malformed());
            }
            let number = number
                .parse()
                .map_err(|_| Error::invalid_argument(format!("Failed to convert version: {number} to numeric.")))?;
            VersionChoice::Specific(number)
        }
        (Some(kind), Some(label)) if kind.eq_ignore_ascii_case("labels") && !label.is_empty() => VersionChoice::Label(
            decoded(label)
                .ok_or_else(|| Error::invalid_argument(format!("Failed to decode model version label:{label}")))?,
        ),
        (None, None) => VersionChoice::Latest,
        _ => return Err(malformed()),
    };
    if name.is_empty() {
        return Err(malformed());
    }
    let model = decoded(name).ok_or_else(|| Error::invalid_argument(format!("Failed to decode model name:{name}")))?;
    Ok(Route { action, model, version })
}

fn strip<'a>(path: &'a str, start: &str) -> Option<&'a str> {
    let (head, rest) = path.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(rest)
}

fn strip_end<'a>(path: &'a str, end: &str) -> Option<&'a str> {
    let (rest, tail) = path.split_at_checked(path.len().checked_sub(end.len())?)?;
    tail.eq_ignore_ascii_case(end).then_some(rest)
}

/// `text` with each `%XX` replaced by its byte; `None` when the bytes are not UTF-8. A lone sign stands for itself.
pub(super) fn decoded(text: &str) -> Option<String> {
    percent_encoding::percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_models_and_versions() {
        let read = |method: Method, path: &str| {
            let route = route(&method, path).expect(path);
            (route.action, route.model, route.version)
        };
        let m = || "m".to_owned();
        let latest = VersionChoice::Latest;
        assert_eq!(read(Method::POST, "/v1/models/m:predict"), (Action::Predict, m(), latest.clone()));
        assert_eq!(read(Method::POST, "/V1/Models/M:Classify"), (Action::Classify, "M".into(), latest.clone()));
        let third = VersionChoice::Specific(3);
        assert_eq!(read(Method::POST, "/v1/models/m/versions/3:regress"), (Action::Regress, m(), third.clone()));
        let label = VersionChoice::Label("a b".into());
        assert_eq!(read(Method::POST, "/v1/models/a%2Fb/labels/a%20b:predict"), (Action::Predict, "a/b".into(), label));
        assert_eq!(read(Method::GET, "/v1/models"), (Action::List, String::new(), latest.clone()));
        assert_eq!(read(Method::GET, "/v1/models/m"), (Action::Status, m(), latest.clone()));
        assert_eq!(read(Method::HEAD, "/v1/models/m/versions/3"), (Action::Status, m(), third.clone()));
        assert_eq!(read(Method::GET, "/v1/models/m/versions/3/metadata"), (Action::Metadata, m(), third));
        assert_eq!(read(Method::GET, "/v1/models/m/batching"), (Action::Batching, m(), latest.clone()));
        assert_eq!(read(Method::GET, "/v1/models/metadata"), (Action::Status, "metadata".into(), latest.clone()));
        assert_eq!(read(Method::GET, "/v1/models/100%"), (Action::Status, "100%".into(), latest));
        assert!(is_ours("/v1/foo") && is_ours("/V1/") && !is_ours("/v1") && !is_ours("/v2/models"));
    }

    #[test]
    fn what_is_no_request_is_malformed() {
        for (method, path) in [
            (Method::GET, "/v1/foo"),
            (Method::GET, "/v1/models/"),
            (Method::GET, "/v1/models/m/"),
            (Method::GET, "/v1/models/m:predict"),
            (Method::GET, "/v1/models/m/versions"),
            (Method::GET, "/v1/models/m/versions/abc"),
            (Method::GET, "/v1/models/m/versions/-1"),
            (Method::GET, "/v1/models/m/labels/"),
            (Method::GET, "/v1/models/m/other/1"),
            (Method::GET, "/v1/models/m/versions/1/labels/a"),
            (Method::POST, "/v1/models/m"),
            (Method::POST, "/v1/models/m:explain"),
            (Method::POST, "/v1/models/m:predict/"),
            (Method::POST, "/v1/models/:predict"),
            (Method::PUT, "/v1/models/m:predict"),
            (Method::DELETE, "/v1/models/m"),
        ] {
            let error = route(&method, path).expect_err(path);
            assert_eq!(error.message(), format!("Malformed request: {method} {path}"));
        }
        let number = "99999999999999999999";
        let error = route(&Method::GET, &format!("/v1/models/m/versions/{number}")).expect_err("more than 63 bits");
        assert_eq!(error.message(), format!("Failed to convert version: {number} to numeric."));
        let error = route(&Method::GET, "/v1/models/%ff").expect_err("no UTF-8");
        assert_eq!(error.message(), "Failed to decode model name:%ff");
    }
}
