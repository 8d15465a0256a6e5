use super::*;
use crate::model::example::{Example, Feature};

fn spec(name: &str, dtype: DType, inner: &[usize]) -> Spec {
    let mut dims = vec![Dim::Symbol("n".into())];
    dims.extend(inner.iter().map(|n| Dim::Fixed(*n)));
    Spec::tensor(name, dtype, Some(dims))
}

fn model() -> Signature {
    Signature {
        inputs: vec![spec("a", DType::F32, &[3]), spec("b", DType::I32, &[2])],
        outputs: vec![spec("y", DType::F32, &[2]), spec("z", DType::F32, &[1])],
    }
}

fn read(text: &str) -> Result<Faces> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(FILE), text).expect("writable");
    faces(folder.path(), &model())
}

#[test]
fn a_model_without_a_file_has_one_face() {
    let folder = tempfile::tempdir().expect("a folder");
    let faces = faces(folder.path(), &model()).expect("no file");
    assert_eq!(faces.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["serving_default"]);
    assert_eq!(faces.get("").expect("the default").signature, model());
}

#[test]
fn aliases_defaults_and_labels_are_read() {
    let text = "[pair]\nmethod = \"predict\"\ninputs = { left = \"a\" }\ndefaults = { b = [1, 2] }\n\
                outputs = { sum = \"y\" }\n\
                [kind]\nmethod = \"tensorflow/serving/classify\"\noutputs = { scores = \"y\" }\n\
                class_labels = [\"no\", \"yes\"]\n[kind.features.a]\nkey = \"pixels\"\ndefault = 0.5\n\
                [kind.features.b]\nshape = [2]\n";
    let faces = read(text).expect("it is right");
    let pair = faces.get("pair").expect("named");
    assert_eq!((pair.signature.inputs.len(), pair.signature.inputs[0].name.as_str()), (1, "left"));
    assert_eq!(pair.signature.outputs[0].name, "sum");
    let left = Tensor::from_vec([2, 3], vec![0.0f32; 6]).expect("six");
    let bound = pair.bind(vec![("left".into(), left)], |_| Ok(())).expect("b is constant");
    assert_eq!(bound[1].values::<i32>().expect("i32").as_ref(), [1, 2, 1, 2]);
    let kind = faces.get("kind").expect("named");
    assert_eq!(kind.method, Method::Classify);
    assert!(kind.takes_examples());
    assert_eq!(kind.signature.inputs[0].to_string(), "inputs: string[?]");
    let names: Vec<_> = kind.signature.outputs.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["scores: f32[n,2]", "classes: string[?,2]"]);
    let row: Example = [("b".to_owned(), Feature::Ints(vec![4, 5]))].into();
    let parsed = kind.parse(&[row]).expect("pixels have a default");
    assert_eq!(parsed[0].values::<f32>().expect("f32").as_ref(), [0.5; 3]);
    assert_eq!(parsed[1].values::<i32>().expect("i32").as_ref(), [4, 5]);
    assert!(faces.get("serving_default").is_some());
}

#[test]
fn mistakes_are_named_with_their_line_and_what_was_expected() {
    let regress = "[s]\nmethod = \"regress\"\noutputs = { outputs = \"z\" }\n";
    let cases = [
        (
            "[s]\nmethod = \"guess\"\n".to_owned(),
            ":2: signature s: method \"guess\", expected predict, classify or regress",
        ),
        (
            "[s]\nmethod = \"predict\"\n\ninputs = { x = \"c\" }\n".to_owned(),
            ":4: signature s: the model has no input \"c\", expected one of a, b",
        ),
        (
            "[s]\nmethod = \"predict\"\ninputs = { x = \"a\" }\n".to_owned(),
            "the model's input \"b\" has no name here, expected one, or a default",
        ),
        ("[s]\nmethod = \"classify\"\n".to_owned(), "the model has 2 outputs, expected outputs = { scores"),
        (
            "[s]\nmethod = \"classify\"\noutputs = { scores = \"y\" }\nclass_labels = [\"a\"]\n".to_owned(),
            ":4: signature s: 1 class_labels, expected 2",
        ),
        (
            "[s]\nmethod = \"classify\"\noutputs = { y = \"y\" }\n".to_owned(),
            ":3: signature s: output \"y\", expected only classes and scores",
        ),
        (
            format!("{regress}[s.features.a]\nkind = \"Sparse\"\n"),
            ":5: signature s: kind \"Sparse\", expected FixedLen or VarLen",
        ),
        (
            format!("{regress}[s.features.b]\ndtype = \"float\"\n"),
            ":5: signature s: a feature of f32, expected one that makes b: i32[n,2]",
        ),
        (format!("{regress}[s.features.a]\nshape = [4]\n"), "rows of shape [4], expected such that make a: f32[n,3]"),
        (
            format!("{regress}[s.features.a]\nkind = \"VarLen\"\n"),
            "VarLen makes rows of one open axis, expected FixedLen",
        ),
        (format!("{regress}[s.defaults]\nc = 1\n"), ":5: signature s: a default for \"c\", expected"),
        (
            "[s]\nmethod = \"predict\"\ndefaults = { a = [1.0, 2.0] }\n".to_owned(),
            ":3: signature s: a default of shape [2], expected that of a: f32[n,3]",
        ),
        ("[s]\nmethod = \"predict\"\ncolour = 1\n".to_owned(), ":3: unknown field `colour`, expected"),
        ("[s\n".to_owned(), "signatures.toml:1: "),
    ];
    for (text, expected) in cases {
        let error = read(&text).expect_err(&text);
        assert!(error.message().contains(expected), "{expected}\n{error}");
    }
}
