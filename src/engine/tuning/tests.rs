use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::engine::compile::{compile, optimise};
use crate::engine::device::{LaneOptions, Mask, Tenancy};
use crate::engine::ir::{Attributes, Given, Graph, Node, Profile};
use crate::engine::ops::{OpSpec, build};
use crate::tensor::{DType, Dim, Shape, Signature, Spec, Tensor};

/// Extents of the product that is tuned.
const EXTENTS: [usize; 3] = [64, 96, 80];

/// A matrix product with a constant right side.
fn product() -> Graph {
    let [rows, terms, columns] = EXTENTS;
    let dims = vec![Dim::Fixed(rows), Dim::Fixed(terms)];
    let signature = Signature { inputs: vec![Spec::tensor("x", DType::F32, Some(dims))], outputs: Vec::new() };
    let mut graph = Graph { values: vec![], nodes: vec![], inputs: vec![], outputs: vec![], signature };
    let x = graph.add_value("x", None);
    let weights = Tensor::from_bytes(DType::F32, Shape::new([terms, columns]), vec![0; terms * columns * 4]);
    let w = graph.add_value("w", Some(weights.expect("as many bytes as elements")));
    let y = graph.add_value("y", None);
    let spec = OpSpec { domain: "", name: "MatMul", opset: 13, attributes: &Attributes::new(), inputs: 2, outputs: 1 };
    let op = build(&spec).expect("a known operator");
    graph.nodes.push(Node { name: "product".into(), op, inputs: vec![Some(x), Some(w)], outputs: vec![Some(y)] });
    (graph.inputs, graph.outputs) = (vec![x], vec![y]);
    graph
}

fn compiled(profile: &Profile, choices: &Choices) -> Result<Program> {
    let given = [Given::Shape(Shape::new([EXTENTS[0], EXTENTS[1]]))];
    compile(&optimise(product(), profile)?, &given, profile, choices)
}

fn texts(program: &Program) -> Vec<(Arc<str>, [u32; 3])> {
    program.segments.iter().flat_map(|s| &s.dispatches).map(|d| (Arc::clone(&d.kernel.source), d.groups)).collect()
}

#[test]
fn the_default_wins_unless_another_is_clearly_faster() {
    let candidates = ["a".to_owned(), "b".to_owned()];
    let times = |a: u64, b: u64| {
        BTreeMap::from([("a".to_owned(), Duration::from_micros(a)), ("b".to_owned(), Duration::from_micros(b))])
    };
    assert_eq!(winner(&candidates, &times(100, 90)).as_deref(), Some("b"));
    assert_eq!(winner(&candidates, &times(100, 99)).as_deref(), Some("a"));
    assert_eq!(winner(&candidates, &BTreeMap::from([("a".to_owned(), Duration::ZERO)])), None);
}

#[test]
fn modes_are_words() {
    assert_eq!("cached".parse::<Tune>().expect("a mode"), Tune::Cached);
    assert!("always".parse::<Tune>().is_err());
}

#[test]
fn choices_change_the_program_and_unknown_ones_do_not() {
    let profile = Profile { subgroup: Some(8), ..Profile::plain(crate::engine::ir::Family::Software) };
    let default = compiled(&profile, &Choices::new()).expect("it compiles");
    let problem = default.problems().next().expect("a product has several tiles");
    assert_eq!(problem.chosen, 0);
    assert!(!problem.key.contains(" product "), "no node's name: {}", problem.key);
    let choose = |name: &str| compiled(&profile, &Choices::from([(problem.key.clone(), name.to_owned())]));
    let other = choose(&problem.candidates[1]).expect("it compiles");
    assert_ne!(texts(&other), texts(&default));
    assert_eq!(other.problems().next().map(|p| p.chosen), Some(1));
    assert_eq!(texts(&choose("of another version").expect("it compiles")), texts(&default));
    assert_eq!(texts(&choose(&problem.candidates[0]).expect("it compiles")), texts(&default));
}

#[test]
fn what_one_start_measures_the_next_one_knows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for adapter in Adapter::all() {
        let profile = adapter.profile(&Mask::default());
        let lane = Lane::open(&adapter, 0, &LaneOptions::default()).expect("a device");
        let open = |tune| Tuning::open(tune, Some(folder.path()), &adapter);
        let program = |choices: &Choices| compiled(&profile, choices);
        let problems = program(&Choices::new()).expect("it compiles").problems().count();
        // Nothing is measured unless that is asked for.
        for tune in [Tune::Off, Tune::Cached] {
            let tuning = open(tune);
            tuning.measure(&lane, &Tenancy::unbounded(), &program).expect("it does nothing");
            assert!(tuning.choices().is_empty());
        }
        let tuning = open(Tune::Load);
        tuning.measure(&lane, &Tenancy::unbounded(), &program).expect("it runs");
        assert_eq!(tuning.choices().len(), problems);
        assert_eq!(open(Tune::Cached).choices(), tuning.choices());
        assert!(open(Tune::Off).choices().is_empty());
    }
}

#[test]
fn a_folder_that_cannot_be_written_only_warns() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    for adapter in Adapter::all() {
        // No folder can be below a file.
        let tuning = Tuning::open(Tune::Load, Some(&file.path().join("cache")), &adapter);
        tuning.keep(&Choices::from([("a problem".to_owned(), "8x4".to_owned())]));
        tuning.keep(&Choices::from([("another".to_owned(), "8x4".to_owned())]));
        assert_eq!((tuning.choices().len(), tuning.unkept()), (2, 2));
        let options = LaneOptions { cache: Some(file.path().join("cache")), ..LaneOptions::default() };
        let lane = Lane::open(&adapter, 0, &options).expect("a device");
        // Where there is something to keep, it cannot be.
        drop(lane.keep_pipelines());
    }
}
