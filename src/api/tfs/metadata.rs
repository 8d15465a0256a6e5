//! GetModelMetadata, and signatures on the wire.

use prost::Message as _;
use prost_types::Any;

use super::decode::dtype;
use super::encode::{Form, data_type, encode};
use super::proto::serving::{GetModelMetadataRequest, GetModelMetadataResponse, SignatureDefMap};
use super::proto::tensorflow::tensor_shape_proto::Dim as WireDim;
use super::proto::tensorflow::{SignatureDef, TensorInfo, TensorShapeProto};
use super::spec::{answered, wanted};
use crate::api::observer::Answering;
use crate::error::{Error, Result};
use crate::model::{Face, Manager};
use crate::tensor::{Dim, Signature, Spec};

/// The only field of metadata that there is.
const SIGNATURES: &str = "signature_def";
const TYPE: &str = "type.googleapis.com/tensorflow.serving.SignatureDefMap";

/// Answers a request for metadata.
pub(in crate::api) fn metadata(
    manager: &Manager,
    request: GetModelMetadataRequest,
    asked: &mut Option<Answering>,
) -> Result<GetModelMetadataResponse> {
    let wanted = wanted(request.model_spec)?;
    if request.metadata_field.is_empty() {
        return Err(Error::invalid_argument("GetModelMetadataRequest must specify at least one metadata_field"));
    }
    if let Some(other) = request.metadata_field.iter().find(|f| *f != SIGNATURES) {
        return Err(Error::invalid_argument(format!("Metadata field {other} is not supported")));
    }
    let servable = manager.servable(&wanted.name, &wanted.version)?;
    *asked = Some(Answering { id: servable.id().clone(), signature: String::new() });
    let named = servable.faces().iter().map(|(name, face)| Ok((name.to_owned(), definition(face)?)));
    let map = SignatureDefMap { signature_def: named.collect::<Result<_>>()? };
    let any = Any { type_url: TYPE.to_owned(), value: map.encode_to_vec() };
    Ok(GetModelMetadataResponse {
        model_spec: Some(answered(servable.id(), "")),
        metadata: [(SIGNATURES.to_owned(), any)].into(),
    })
}

fn definition(face: &Face) -> Result<SignatureDef> {
    let infos = |specs: &[Spec]| specs.iter().map(|s| (s.name.clone(), info(s))).collect();
    let defaults = face.defaults.iter().map(|(name, tensor)| Ok((name.clone(), encode(tensor, Form::Typed)?)));
    Ok(SignatureDef {
        inputs: infos(&face.signature.inputs),
        outputs: infos(&face.signature.outputs),
        method_name: face.method.name().to_owned(),
        defaults: defaults.collect::<Result<_>>()?,
    })
}

fn info(spec: &Spec) -> TensorInfo {
    let shape = match &spec.dims {
        None => TensorShapeProto { dim: Vec::new(), unknown_rank: true },
        Some(dims) => {
            let dim = dims.iter().map(|dim| match dim {
                Dim::Fixed(n) => WireDim { size: *n as i64, name: String::new() },
                Dim::Symbol(name) => WireDim { size: -1, name: name.to_string() },
                Dim::Unknown => WireDim { size: -1, name: String::new() },
            });
            TensorShapeProto { dim: dim.collect(), unknown_rank: false }
        }
    };
    // What feeds and fetches are called in TensorFlow's graphs.
    TensorInfo { name: format!("{}:0", spec.name), dtype: data_type(spec.dtype).into(), tensor_shape: Some(shape) }
}

/// The inputs and outputs of a signature as a client reads them from a reply, by name.
pub(in crate::api) fn specs(response: &GetModelMetadataResponse, name: &str) -> Result<Signature> {
    let any = response.metadata.get(SIGNATURES);
    let any = any.ok_or_else(|| Error::internal("the server sent no signature_def"))?;
    let map = SignatureDefMap::decode(any.value.as_ref())
        .map_err(|e| Error::internal(format!("the server's signature_def is damaged: {e}")))?;
    let definition = map.signature_def.get(name);
    let definition = definition.ok_or_else(|| Error::not_found(format!("the model has no signature {name:?}")))?;
    let read = |infos: &std::collections::HashMap<String, TensorInfo>| -> Result<Vec<Spec>> {
        let mut specs = infos.iter().map(|(name, info)| spec(name, info)).collect::<Result<Vec<_>>>()?;
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(specs)
    };
    Ok(Signature { inputs: read(&definition.inputs)?, outputs: read(&definition.outputs)? })
}

fn spec(name: &str, info: &TensorInfo) -> Result<Spec> {
    let dtype = dtype(info.dtype);
    let dtype = dtype.ok_or_else(|| Error::unimplemented(format!("{name:?} has the type {}", info.dtype)))?;
    let shape = info.tensor_shape.as_ref().filter(|s| !s.unknown_rank);
    let dim = |d: &WireDim| match usize::try_from(d.size) {
        Ok(size) => Dim::Fixed(size),
        Err(_) if d.name.is_empty() => Dim::Unknown,
        Err(_) => Dim::Symbol(d.name.as_str().into()),
    };
    Ok(Spec::tensor(name, dtype, shape.map(|s| s.dim.iter().map(dim).collect())))
}
