//! Named tensors of a request against a signature: the checks a request passes before it may join others.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::tensor::{DType, Signature, Spec, Tensor};

/// The name that TensorFlow's messages give a dtype.
pub fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "bool",
        DType::U8 => "uint8",
        DType::I8 => "int8",
        DType::U16 => "uint16",
        DType::I16 => "int16",
        DType::U32 => "uint32",
        DType::I32 => "int32",
        DType::U64 => "uint64",
        DType::I64 => "int64",
        DType::F16 => "half",
        DType::BF16 => "bfloat16",
        DType::U2 => "uint2",
        DType::I2 => "int2",
        DType::U4 => "uint4",
        DType::I4 => "int4",
        DType::F4E2M1 => "float4_e2m1fn",
        DType::F8E4M3FN => "float8_e4m3fn",
        DType::F8E4M3FNUZ => "float8_e4m3fnuz",
        DType::F8E5M2 => "float8_e5m2",
        DType::F8E5M2FNUZ => "float8_e5m2fnuz",
        DType::F8E8M0 => "float8_e8m0fnu",
        DType::F32 => "float",
        DType::F64 => "double",
        DType::Complex64 => "complex64",
        DType::Complex128 => "complex128",
        DType::String => "string",
        DType::Sequence => "sequence",
        DType::Optional => "optional",
    }
}

/// The inputs in the signature's order, each with whether the request sent it; else it is the default. Shapes are not looked
/// at: models take others than they declare.
///
/// # Errors
/// `INVALID_ARGUMENT` when a name is missing or unknown, or a dtype is not the signature's.
pub fn bind(
    signature: &Signature,
    defaults: &BTreeMap<String, Tensor>,
    inputs: Vec<(String, Tensor)>,
) -> Result<Vec<(Tensor, bool)>> {
    let mut sent: BTreeMap<String, Tensor> = inputs.into_iter().collect();
    if defaults.is_empty() && sent.len() != signature.inputs.len() {
        return Err(wrong_count(signature, &sent));
    }
    let mut missing: Vec<&Spec> = signature
        .inputs
        .iter()
        .filter(|spec| !sent.contains_key(&spec.name) && !defaults.contains_key(&spec.name))
        .collect();
    missing.sort_unstable_by_key(|spec| &spec.name);
    if let Some(Spec { name, .. }) = missing.first() {
        return Err(Error::invalid_argument(format!(
            "Signature input alias: {name}(feed name: {name}:0) not found in request and no default value provided. Inputs \
             expected to be in the request {}, or default input alias set: {}",
            set(sent.keys().map(String::as_str)),
            defaults.keys().map(String::as_str).collect::<Vec<_>>().join(",")
        )));
    }
    let is_known = |name: &&str| signature.inputs.iter().any(|spec| spec.name == *name);
    if sent.keys().any(|name| !is_known(&name.as_str())) {
        let all: Vec<&str> = sent.keys().map(String::as_str).collect();
        let used: Vec<&str> = all.iter().copied().filter(is_known).collect();
        return Err(Error::invalid_argument(format!(
            "Inputs contains invalid name. Used request inputs: {}, request input: {}",
            used.join(","),
            all.join(",")
        )));
    }
    let mut bound = Vec::with_capacity(signature.inputs.len());
    for (i, spec) in signature.inputs.iter().enumerate() {
        let (tensor, is_sent) = match (sent.remove(&spec.name), defaults.get(&spec.name)) {
            (Some(tensor), _) => (tensor, true),
            (None, Some(default)) => (default.clone(), false),
            (None, None) => return Err(Error::internal(format!("the signature names input {} twice", spec.name))),
        };
        if tensor.dtype() != spec.dtype {
            return Err(Error::invalid_argument(format!(
                "Expects arg[{i}] to be {} but {} is provided",
                dtype_name(spec.dtype),
                dtype_name(tensor.dtype())
            )));
        }
        bound.push((tensor, is_sent));
    }
    Ok(bound)
}

/// Which outputs a filter names, by their place in the signature; all of them if it is empty.
///
/// # Errors
/// `INVALID_ARGUMENT` when a name is unknown or stands twice.
pub fn select_outputs(signature: &Signature, filter: &[String]) -> Result<Vec<usize>> {
    if filter.is_empty() {
        return Ok((0..signature.outputs.len()).collect());
    }
    let mut chosen = Vec::with_capacity(filter.len());
    for name in filter {
        let Some(at) = signature.outputs.iter().position(|s| s.name == *name) else {
            let mut names: Vec<_> = signature.outputs.iter().map(|s| s.name.as_str()).collect();
            names.sort_unstable();
            return Err(Error::invalid_argument(format!(
                "output tensor alias not found in signature: {name} Outputs expected to be in the set {}.",
                set(names)
            )));
        };
        if chosen.contains(&at) {
            return Err(Error::invalid_argument(format!("duplicate output tensor alias: {name}")));
        }
        chosen.push(at);
    }
    Ok(chosen)
}

fn wrong_count(signature: &Signature, sent: &BTreeMap<String, Tensor>) -> Error {
    let mut wanted: Vec<&str> = signature.inputs.iter().map(|s| s.name.as_str()).collect();
    wanted.sort_unstable();
    let extra = sent.keys().map(String::as_str).filter(|name| !wanted.contains(name));
    let missing = wanted.iter().copied().filter(|name| !sent.contains_key(*name));
    Error::invalid_argument(format!(
        "input size does not match signature: {}!={} len({}) != len({}). Sent extra: {}. Missing but required: {}.",
        sent.len(),
        wanted.len(),
        set(sent.keys().map(String::as_str)),
        set(wanted.iter().copied()),
        set(extra),
        set(missing)
    ))
}

/// `{a,b}`.
fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    format!("{{{}}}", names.into_iter().collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dim;

    fn signature(inputs: &[(&str, DType)], outputs: &[&str]) -> Signature {
        let spec = |name: &str, dtype| Spec::tensor(name, dtype, Some(vec![Dim::Unknown]));
        Signature {
            inputs: inputs.iter().map(|(name, dtype)| spec(name, *dtype)).collect(),
            outputs: outputs.iter().map(|name| spec(name, DType::F32)).collect(),
        }
    }

    fn refusal(signature: &Signature, inputs: &[(&str, Tensor)]) -> String {
        let inputs = inputs.iter().map(|(name, t)| ((*name).to_string(), t.clone())).collect();
        bind(signature, &BTreeMap::new(), inputs).expect_err("a wrong request").message().to_string()
    }

    #[test]
    fn inputs_come_out_in_the_signatures_order() {
        let two = signature(&[("b", DType::F32), ("a", DType::I64)], &["y"]);
        let (a, b) = (Tensor::scalar(1i64), Tensor::scalar(2.0f32));
        let sent = vec![("a".into(), a.clone()), ("b".into(), b.clone())];
        let bound = bind(&two, &BTreeMap::new(), sent).expect("both are there");
        assert_eq!(bound, [(b, true), (a, true)]);
    }

    #[test]
    fn wrong_inputs_are_named_as_tensorflow_serving_does() {
        let two = signature(&[("a", DType::F32), ("b", DType::F32)], &["y"]);
        let one = signature(&[("x", DType::F32)], &["y"]);
        let v = Tensor::scalar(1.0f32);
        assert_eq!(
            refusal(&two, &[("a", v.clone())]),
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: {b}."
        );
        assert_eq!(
            refusal(&one, &[("z", v)]),
            "Signature input alias: x(feed name: x:0) not found in request and no default value provided. Inputs expected \
             to be in the request {z}, or default input alias set: "
        );
        assert_eq!(refusal(&one, &[("x", Tensor::scalar(1i32))]), "Expects arg[0] to be float but int32 is provided");
    }

    #[test]
    fn filters_choose_outputs() {
        let three = signature(&[], &["c", "a", "b"]);
        let select =
            |names: &[&str]| select_outputs(&three, &names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(select(&[]).expect("all"), [0, 1, 2]);
        assert_eq!(select(&["b", "c"]).expect("two"), [2, 0]);
        assert_eq!(
            select(&["y9"]).expect_err("unknown").message(),
            "output tensor alias not found in signature: y9 Outputs expected to be in the set {a,b,c}."
        );
        assert_eq!(select(&["a", "a"]).expect_err("twice").message(), "duplicate output tensor alias: a");
    }
}
