//! A version's signatures.

use std::sync::OnceLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};

use super::json::write_message;
use super::reply::Reply;
use crate::api::observer::Answering;
use crate::api::router::DESCRIPTORS;
use crate::api::tfs::metadata;
use crate::api::tfs::serving::model_spec::VersionChoice as Wire;
use crate::api::tfs::serving::{GetModelMetadataRequest, ModelSpec};
use crate::error::{Error, Result};
use crate::model::{Manager, VersionChoice};

const FIELD: &str = "signature_def";

/// What GetModelMetadata gives, as TensorFlow Serving prints it; `asked` is told which servable was found.
///
/// # Errors
/// Those of GetModelMetadata.
pub(super) fn signatures(
    manager: &Manager,
    model: &str,
    version: VersionChoice,
    asked: &mut Option<Answering>,
) -> Result<Reply> {
    let version_choice = match version {
        VersionChoice::Latest => None,
        VersionChoice::Specific(version) => Some(Wire::Version(version)),
        VersionChoice::Label(label) => Some(Wire::VersionLabel(label)),
    };
    let spec = ModelSpec { name: model.to_owned(), version_choice, ..ModelSpec::default() };
    let request = GetModelMetadataRequest { model_spec: Some(spec), metadata_field: vec![FIELD.to_owned()] };
    let response = metadata(manager, request, asked)?;
    let mut out = b"{\"model_spec\":".to_vec();
    write("tensorflow.serving.ModelSpec", &response.model_spec.unwrap_or_default().encode_to_vec(), &mut out)?;
    out.extend_from_slice(b",\"metadata\":{\"signature_def\":");
    let packed = response.metadata.get(FIELD).map(|any| any.value.as_slice()).unwrap_or_default();
    write("tensorflow.serving.SignatureDefMap", packed, &mut out)?;
    out.extend_from_slice(b"}}");
    Ok(Reply::json(out))
}

/// Writes the encoded message of this type.
fn write(name: &str, encoded: &[u8], out: &mut Vec<u8>) -> Result<()> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(DESCRIPTORS).ok());
    let descriptor = pool.as_ref().and_then(|pool| pool.get_message_by_name(name));
    let damaged = || Error::internal(format!("the embedded description of {name} is damaged"));
    let message = DynamicMessage::decode(descriptor.ok_or_else(damaged)?, encoded).map_err(|_| damaged())?;
    write_message(&message, out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tfs::wire::{DataType, SignatureDef, TensorInfo, TensorShapeProto, tensor_shape_proto::Dim};

    #[test]
    fn fields_that_are_not_set_are_shown() {
        let dim = vec![Dim { size: -1, name: String::new() }, Dim { size: 1, name: "n".into() }];
        let info = TensorInfo {
            name: "x:0".into(),
            dtype: DataType::DtFloat.into(),
            tensor_shape: Some(TensorShapeProto { dim, unknown_rank: false }),
        };
        let signature = SignatureDef {
            inputs: [("x".to_owned(), info)].into(),
            method_name: "tensorflow/serving/predict".into(),
            ..SignatureDef::default()
        };
        let mut out = Vec::new();
        write("tensorflow.SignatureDef", &signature.encode_to_vec(), &mut out).expect("it is described");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            r#"{"inputs":{"x":{"name":"x:0","dtype":"DT_FLOAT","tensor_shape":{"dim":[{"size":"-1","name":""},{"size":"1","name":"n"}],"unknown_rank":false}}},"outputs":{},"method_name":"tensorflow/serving/predict","defaults":{}}"#
        );
        let spec = ModelSpec { name: "m".into(), version_choice: Some(Wire::Version(123)), ..ModelSpec::default() };
        let mut out = Vec::new();
        write("tensorflow.serving.ModelSpec", &spec.encode_to_vec(), &mut out).expect("it is described");
        assert_eq!(String::from_utf8(out).expect("text"), r#"{"name":"m","version":"123","signature_name":""}"#);
    }
}
