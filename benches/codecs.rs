//! TensorProto and JSON to Tensor and back: `cargo bench --bench codecs`. No adapter is needed.

use std::hint::black_box;

use coracle::api::wire::serving::PredictRequest;
use coracle::api::{Budget, Form, Format, JsonLimits, Ledger, decode_inputs, encode, read_json, write_json};
use coracle::tensor::{Shape, Signature, Spec, Tensor};
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

/// A request's body, and a reply's.
fn json(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json");
    for (dtype, tensor) in tensors() {
        let signature = Signature { inputs: vec![Spec::tensor("x", tensor.dtype(), None)], outputs: Vec::new() };
        group.throughput(Throughput::Bytes(tensor.bytes().len() as u64));
        let outputs = [("x".to_owned(), tensor)];
        let ledger = || Ledger::open(&Budget::new(u64::MAX));
        let write = || write_json(Format::Column, &outputs, &ledger()).expect("a type with a form");
        let body = String::from_utf8(write()).expect("text").replace("{\"outputs\":", "{\"inputs\":");
        let limits = JsonLimits { depth_max: 64, elements_max: usize::MAX };
        group.bench_function(BenchmarkId::new("read", dtype), |bencher| {
            bencher.iter(|| read_json(black_box(body.as_bytes()), &signature, limits, &ledger()).expect("a request"));
        });
        group.bench_function(BenchmarkId::new("write", dtype), |bencher| bencher.iter(write));
    }
    group.finish();
}

criterion_group!(benches, decoding, encoding, json);
criterion_main!(benches);
