//! What is known of a gRPC call from its path alone.

use super::tokens::Right;

const PREDICTIONS: &str = "/tensorflow.serving.PredictionService/";
const MODELS: &str = "/tensorflow.serving.ModelService/";

/// Each method: its service, its name, and the right that callers need. The one without has rules of its own.
const METHODS: [(&str, &str, Option<Right>); 7] = [
    (PREDICTIONS, "Predict", Some(Right::Predict)),
    (PREDICTIONS, "Classify", Some(Right::Predict)),
    (PREDICTIONS, "Regress", Some(Right::Predict)),
    (PREDICTIONS, "MultiInference", Some(Right::Predict)),
    (PREDICTIONS, "GetModelMetadata", Some(Right::Look)),
    (MODELS, "GetModelStatus", Some(Right::Look)),
    (MODELS, "HandleReloadConfigRequest", None),
];

fn known(path: &str) -> Option<&'static (&'static str, &'static str, Option<Right>)> {
    METHODS.iter().find(|(service, name, _)| path.strip_prefix(service) == Some(name))
}

/// The method's name, as metrics have it.
pub(super) fn method(path: &str) -> &'static str {
    known(path).map_or("Unknown", |(_, name, _)| name)
}

/// The right that a caller needs.
pub(super) fn right(path: &str) -> Option<Right> {
    known(path).and_then(|(_, _, right)| *right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_methods() {
        assert_eq!(method("/tensorflow.serving.PredictionService/Predict"), "Predict");
        assert_eq!(method("/tensorflow.serving.ModelService/Predict"), "Unknown");
        assert_eq!(right("/tensorflow.serving.PredictionService/MultiInference"), Some(Right::Predict));
        assert_eq!(right("/tensorflow.serving.ModelService/GetModelStatus"), Some(Right::Look));
        assert_eq!(right("/tensorflow.serving.ModelService/HandleReloadConfigRequest"), None);
    }
}
