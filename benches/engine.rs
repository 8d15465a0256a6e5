//! Kernels and compiling: `cargo bench --bench engine`. Runs on the preferred adapter; prints that it skipped without one.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use coracle::engine::compile::compile;
use coracle::engine::device::{Adapter, Lane, LaneOptions, Mask};
use coracle::engine::ir::{Attribute, Attributes, Choices, Family, Given, Graph, Node, Profile, ValueId, ValueInfo};
use coracle::engine::ops::{OpSpec, build};
use coracle::tensor::{DType, Dim, Shape, Signature, Spec, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A graph of one operator with one varying input and constant weights.
fn one_operator(name: &str, input: &[usize], weights: &[&[usize]], attributes: &[(&str, Vec<i64>)]) -> Graph {
    let mut given = Attributes::new();
    for (key, values) in attributes {
        let value = if *key == "group" { Attribute::Int(values[0]) } else { Attribute::Ints(values.clone()) };
        given.set(*key, value);
    }
    let spec = OpSpec { domain: "", name, opset: 17, attributes: &given, inputs: 1 + weights.len(), outputs: 1 };
    let op = build(&spec).expect("a known operator");
    let port = |name: &str, dims| Spec::tensor(name, DType::F32, dims);
    let dims = input.iter().map(|d| Dim::Fixed(*d)).collect();
    let mut graph = Graph {
        values: vec![ValueInfo { name: "x".into(), constant: None }, ValueInfo { name: "y".into(), constant: None }],
        nodes: Vec::new(),
        inputs: vec![ValueId(0)],
        outputs: vec![ValueId(1)],
        signature: Signature { inputs: vec![port("x", Some(dims))], outputs: vec![port("y", None)] },
    };
    let mut inputs = vec![Some(ValueId(0))];
    for dims in weights {
        inputs.push(Some(graph.add_value("w", Some(noise(dims)))));
    }
    graph.nodes.push(Node { name: name.into(), op, inputs, outputs: vec![Some(ValueId(1))] });
    graph
}

fn noise(dims: &[usize]) -> Tensor {
    let count = dims.iter().product();
    let values = (0..count).map(|i: usize| ((i * 2_654_435_761) % 1000) as f32 / 1000.0 - 0.5).collect();
    Tensor::from_vec(dims, values).expect("the count is the shape's")
}

fn kernels(criterion: &mut Criterion) {
    let Some((lane, profile)) = lane() else { return };
    let same = |k: i64| vec![("pads", vec![k / 2; 4]), ("kernel_shape", vec![k, k])];
    let cases: [(&str, Graph, Vec<usize>); 6] = [
        ("matmul_512", one_operator("MatMul", &[512, 512], &[&[512, 512]], &[]), vec![512, 512]),
        ("matmul_1024", one_operator("MatMul", &[1024, 1024], &[&[1024, 1024]], &[]), vec![1024, 1024]),
        (
            "conv3x3_64_56",
            one_operator("Conv", &[1, 64, 56, 56], &[&[64, 64, 3, 3], &[64]], &same(3)),
            vec![1, 64, 56, 56],
        ),
        (
            "conv1x1_256_64_56",
            one_operator("Conv", &[1, 256, 56, 56], &[&[64, 256, 1, 1], &[64]], &same(1)),
            vec![1, 256, 56, 56],
        ),
        (
            "depthwise3x3_144_56",
            one_operator(
                "Conv",
                &[1, 144, 56, 56],
                &[&[144, 1, 3, 3], &[144]],
                &[same(3), vec![("group", vec![144])]].concat(),
            ),
            vec![1, 144, 56, 56],
        ),
        (
            "conv7x7s2_3_224",
            one_operator(
                "Conv",
                &[1, 3, 224, 224],
                &[&[64, 3, 7, 7], &[64]],
                &[same(7), vec![("strides", vec![2, 2])]].concat(),
            ),
            vec![1, 3, 224, 224],
        ),
    ];
    let mut group = criterion.benchmark_group("kernels");
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    for (name, graph, shape) in cases {
        let program = Arc::new(
            compile(&graph, &[Given::Shape(Shape::new(shape.clone()))], &profile, &Choices::new())
                .expect("it compiles"),
        );
        let executable = lane.prepare(&program).expect("it fits the adapter");
        lane.warm(&executable).expect("it runs");
        let input = noise(&shape);
        // Criterion's elements are floating-point operations here.
        group.throughput(Throughput::Elements(program.flops as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|runs| {
                let run = |_| lane.run(&executable, vec![input.clone()]).expect("it runs").times.device;
                (0..runs).map(run).sum()
            });
        });
    }
    group.finish();
}

fn compiling(criterion: &mut Criterion) {
    let profile = lane().map_or_else(software_profile, |(_, profile)| profile);
    let graph = one_operator("Conv", &[1, 64, 56, 56], &[&[64, 64, 3, 3], &[64]], &[("pads", vec![1; 4])]);
    criterion.bench_function("compile/conv3x3_64_56", |bencher| {
        bencher.iter(|| {
            compile(black_box(&graph), &[Given::Shape(Shape::new([1, 64, 56, 56]))], &profile, &Choices::new())
        });
    });
}

fn lane() -> Option<(Lane, Profile)> {
    let adapter = Adapter::pick("auto").inspect_err(|error| eprintln!("skipped: {error}")).ok()?;
    let lane = Lane::open(&adapter, 0, &LaneOptions::default()).expect("the adapter gives a device");
    Some((lane, adapter.profile(&Mask::default())))
}

fn software_profile() -> Profile {
    Profile { f16: true, subgroup: Some(8), max_storage_buffers: 32, ..Profile::plain(Family::Software) }
}

criterion_group!(benches, kernels, compiling);
criterion_main!(benches);
