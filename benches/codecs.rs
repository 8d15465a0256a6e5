//! TensorProto to Tensor and back: `cargo bench --bench codecs`. No adapter is needed.

use std::hint::black_box;

use coracle::api::wire::serving::PredictRequest;
use coracle::api::{Budget, Form, Ledger, decode_inputs, encode};
use coracle::tensor::{Shape, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;

/// One image of 224 × 224, and as many integers.
const EXTENTS: [usize; 4] = [1, 3, 224, 224];

fn tensors() -> [(&'static str, Tensor); 3] {
    let shape = Shape::new(EXTENTS);
    let count = shape.elements();
    let tensor = "the count is the shape's";
    [
        ("f32", Tensor::from_vec(shape.clone(), (0..count).map(|i| i as f32 / 1e3).collect()).expect(tensor)),
        ("i64", Tensor::from_vec(shape.clone(), (0..count as i64).collect()).expect(tensor)),
        ("u8", Tensor::from_vec(shape, (0..count).map(|i| i as u8).collect::<Vec<u8>>()).expect(tensor)),
    ]
}

fn forms() -> [(&'static str, Form); 2] {
    [("typed", Form::Typed), ("content", Form::Content)]
}

/// The bytes of a request on the wire, so that parsing them is part of it.
fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (dtype, tensor) in tensors() {
        for (name, form) in forms() {
            let proto = encode(&tensor, form).expect("a type of this protocol");
            let request = PredictRequest { inputs: [("x".to_owned(), proto)].into(), ..PredictRequest::default() };
            let message = request.encode_to_vec();
            group.throughput(Throughput::Bytes(tensor.bytes().len() as u64));
            group.bench_function(BenchmarkId::new(dtype, name), |bencher| {
                bencher.iter(|| {
                    let ledger = Ledger::open(&Budget::new(u64::MAX));
                    decode_inputs(black_box(&message), &ledger).expect("a sound request")
                });
            });
        }
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (dtype, tensor) in tensors() {
        for (name, form) in forms() {
            group.throughput(Throughput::Bytes(tensor.bytes().len() as u64));
            group.bench_function(BenchmarkId::new(dtype, name), |bencher| {
                bencher.iter(|| encode(black_box(&tensor), form).expect("a type of this protocol").encode_to_vec());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decoding, encoding);
criterion_main!(benches);
