//! Which model a request is for, read off its first bytes.

use prost::Message as _;

use super::proto::serving::ModelSpec;
use super::spec::wanted;
use super::weigh::Fields;
use crate::api::inference::Wanted;

/// Methods whose requests begin with the spec of the model.
const METHODS: [&str; 3] = ["/Predict", "/Classify", "/Regress"];

/// The model that the request of the method at `path` asks for, if `beginning`, what has come of its message, tells. Writers put
/// fields in the order of their numbers, and the spec is the first; one who does not is understood once all has come.
pub(in crate::api) fn peek(path: &str, beginning: &[u8]) -> Option<Wanted> {
    if !METHODS.iter().any(|method| path.ends_with(method)) {
        return None;
    }
    let first = Fields(beginning).next().filter(|field| field.number == 1)?;
    wanted(ModelSpec::decode(first.bytes?).ok()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::proto::serving::PredictRequest;
    use super::super::proto::tensorflow::TensorProto;
    use super::*;

    #[test]
    fn the_first_bytes_name_the_model() {
        let model_spec = Some(ModelSpec { name: "m".into(), ..ModelSpec::default() });
        let large = TensorProto { tensor_content: vec![0; 10_000].into(), ..TensorProto::default() };
        let request = PredictRequest { model_spec, inputs: [("x".into(), large)].into(), ..PredictRequest::default() };
        let message = request.encode_to_vec();
        assert_eq!(peek("/s/Predict", &message[..40]).expect("the spec has come").name, "m");
        assert_eq!(peek("/s/Predict", &message[..4]), None, "half of it");
        assert_eq!(peek("/s/MultiInference", &message), None);
        let nameless = PredictRequest { model_spec: None, ..request };
        assert_eq!(peek("/s/Predict", &nameless.encode_to_vec()), None);
    }
}
