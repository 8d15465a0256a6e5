//! Sparse constants, made dense.

use super::limits::MAX_DENSIFIED_BYTES;
use super::proto::SparseTensorProto;
use super::tensor;
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// The dense form of `sparse`. `budget` is how many bytes the model may still have made dense.
///
/// # Errors
/// `INVALID_ARGUMENT` for indices outside the shape, `RESOURCE_EXHAUSTED` past the budget.
pub(super) fn densify(sparse: &SparseTensorProto, budget: &mut usize) -> Result<Tensor> {
    dense(sparse, budget).map_err(|e| e.at(format_args!("sparse tensor {:?}", name(sparse))))
}

/// The name of `sparse`, which its values carry.
pub(super) fn name(sparse: &SparseTensorProto) -> &str {
    sparse.values.as_ref().map_or("", |v| &v.name)
}

fn dense(sparse: &SparseTensorProto, budget: &mut usize) -> Result<Tensor> {
    let (Some(values), Some(indices)) = (&sparse.values, &sparse.indices) else {
        return Err(Error::invalid_argument("values or indices are missing"));
    };
    let (values, indices) = (tensor::from_proto(values, None)?, tensor::from_proto(indices, None)?);
    let shape = tensor::shape(&sparse.dims)?;
    let (dtype, elements) = (values.dtype(), shape.elements());
    if dtype == DType::String {
        return Err(Error::unimplemented("sparse strings are not supported"));
    }
    let size = dtype.bytes();
    let bytes = elements.checked_mul(size).filter(|bytes| *bytes <= *budget).ok_or_else(|| {
        Error::resource_exhausted(format!(
            "shape {shape} passes the {MAX_DENSIFIED_BYTES} bytes that may be made dense"
        ))
    })?;
    *budget -= bytes;
    let count = values.shape().elements();
    let rank = match indices.shape().dims() {
        [n] if *n == count => None,
        [n, rank] if *n == count && *rank == shape.rank() => Some(*rank),
        other => return Err(Error::invalid_argument(format!("indices of shape {other:?} for {count} values"))),
    };
    let (indices, strides) = (indices.to_i64s()?, shape.strides());
    let mut data = vec![0u8; bytes];
    for (i, value) in values.bytes().chunks_exact(size).enumerate() {
        let position = match rank {
            None => usize::try_from(indices[i]).ok().filter(|p| *p < elements),
            Some(rank) => {
                let row = indices[i * rank..(i + 1) * rank].iter().zip(shape.iter().zip(&strides));
                row.map(|(at, (extent, stride))| {
                    usize::try_from(*at).ok().filter(|at| at < extent).map(|at| at * stride)
                })
                .sum()
            }
        };
        let at = size * position.ok_or_else(|| Error::invalid_argument(format!("index {i} is outside {shape}")))?;
        data[at..at + size].copy_from_slice(value);
    }
    Tensor::from_bytes(dtype, shape, data)
}

#[cfg(test)]
mod tests {
    use super::super::proto::TensorProto;
    use super::super::proto::tensor_proto::DataType;
    use super::*;

    fn sparse(dims: Vec<i64>, index_dims: Vec<i64>, indices: Vec<i64>) -> SparseTensorProto {
        let values = TensorProto {
            dims: vec![2],
            data_type: DataType::Float as i32,
            float_data: vec![1.0, 2.0],
            name: "s".into(),
            ..Default::default()
        };
        let indices = TensorProto {
            dims: index_dims,
            data_type: DataType::Int64 as i32,
            int64_data: indices,
            ..Default::default()
        };
        SparseTensorProto { values: Some(values), indices: Some(indices), dims }
    }

    #[test]
    fn flat_positions_and_coordinates_say_the_same() {
        let flat = sparse(vec![2, 3], vec![2], vec![1, 5]);
        let coordinates = sparse(vec![2, 3], vec![2, 2], vec![0, 1, 1, 2]);
        for tensor in [flat, coordinates] {
            assert_eq!(name(&tensor), "s");
            let dense = densify(&tensor, &mut 100).expect("in range");
            assert_eq!(dense.values::<f32>().expect("f32").as_ref(), [0.0, 1.0, 0.0, 0.0, 0.0, 2.0]);
        }
    }

    #[test]
    fn wrong_indices_and_huge_shapes_are_refused() {
        assert!(densify(&sparse(vec![2, 3], vec![2], vec![1, 6]), &mut 100).is_err());
        assert!(densify(&sparse(vec![2, 3], vec![2, 2], vec![0, 1, -1, 2]), &mut 100).is_err());
        assert!(densify(&sparse(vec![1 << 40], vec![2], vec![1, 5]), &mut 100).is_err());
    }
}
