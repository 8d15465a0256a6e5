//! Model files as no exporter writes them: each is refused with a reason, none costs another model, the process or much memory.

use std::path::Path;

use serde_json::json;

use crate::http::ask;
use crate::onnx::{constant, external, field, graph_attribute, input, model, node, number, output, raw};
use crate::server::{Server, command, has_adapter};

/// Kilobytes that the process may have held at any time, the driver's included.
const PEAK_KIB_MAX: u64 = 1 << 20;
const FLOAT: i64 = 1;
const INT64: i64 = 7;
const ELEMENTS: &str = "more than 4294967295 elements";

/// What a name stands for: the model's file, and the code and parts of the message that it is refused with.
type Case = (&'static str, Vec<u8>, &'static str, &'static [&'static str]);

fn y_of(nodes: Vec<u8>, constants: Vec<u8>) -> Vec<u8> {
    model(&[nodes, constants, input("x", &[1]), output("y", &[1])])
}

fn int64(name: &str, values: &[i64]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    constant(name, INT64, &[values.len() as i64], &raw(&bytes))
}

fn plus(weight: Vec<u8>) -> Vec<u8> {
    y_of(node("Add", &["x", "w"], &["y"], &[]), weight)
}

/// Branches inside branches.
fn nested(depth: usize) -> Vec<u8> {
    let leaf = [node("Identity", &["x"], &["y"], &[]), output("y", &[1])].concat();
    let graph = (0..depth).fold(leaf, |inner, _| {
        let branches = [graph_attribute("then_branch", &inner), graph_attribute("else_branch", &inner[..0])].concat();
        [node("If", &["c"], &["y"], &branches), output("y", &[1])].concat()
    });
    model(&[graph, constant("c", 9, &[], &raw(&[1])), input("x", &[1])])
}

fn cases() -> Vec<Case> {
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits/1/model.onnx");
    let whole = std::fs::read(digits).expect("the model is there");
    let chaos: Vec<u8> = (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let circle = [node("Add", &["x", "b"], &["y"], &[]), node("Neg", &["y"], &["b"], &[])].concat();
    let many = node("Neg", &["x"], &["y"], &[]).repeat((1 << 19) + 1);
    let shaped =
        |operator: &str, inputs: &[&str], shape: &[i64]| y_of(node(operator, inputs, &["y"], &[]), int64("s", shape));
    let scalar = |name: &str, value: i64| constant(name, INT64, &[], &raw(&value.to_le_bytes()));
    let range = [scalar("a", 0), scalar("e", 1 << 50), scalar("d", 1)].concat();
    let wide = model(&[node("Neg", &["x"], &["y"], &[]), input("x", &[1 << 40]), output("y", &[1 << 40])]);
    let (invalid, full) = ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED");
    vec![
        ("empty", Vec::new(), invalid, &["the model has no graph"]),
        ("chaos", chaos, invalid, &["the file is not an ONNX model"]),
        ("truncated", whole[..whole.len() / 2].to_vec(), invalid, &["the file is not an ONNX model"]),
        ("circle", y_of(circle, Vec::new()), invalid, &["node \"my ", "depends on its own output"]),
        ("alone", plus(Vec::new()), invalid, &["Add node \"my Add\" reads \"w\", which nothing writes"]),
        ("huge", plus(constant("w", FLOAT, &[1 << 62, 4], &[])), invalid, &["tensor \"w\"", "too large"]),
        ("negative", plus(constant("w", FLOAT, &[-1], &[])), invalid, &["tensor \"w\"", "negative"]),
        ("claimed", plus(constant("w", FLOAT, &[1 << 40], &raw(&[0; 4]))), invalid, &["tensor \"w\""]),
        ("ranked", plus(constant("w", FLOAT, &[1; 65], &raw(&[0; 4]))), invalid, &["tensor \"w\"", "too many"]),
        ("above", plus(constant("w", FLOAT, &[1], &external("../w"))), invalid, &["\"../w\"", "without `..`"]),
        ("root", plus(constant("w", FLOAT, &[1], &external("/etc/hostname"))), invalid, &["\"/etc/hostname\""]),
        ("short", plus(constant("w", FLOAT, &[4], &external("w"))), invalid, &["has 3 bytes, 16 from 0 on are needed"]),
        (
            "link",
            plus(constant("w", FLOAT, &[1], &external("l"))),
            "PERMISSION_DENIED",
            &["leads out of the model's folder"],
        ),
        ("deep", nested(200), full, &["graphs are nested more than 28 deep"]),
        ("many", y_of(many, Vec::new()), full, &["more than 524288 nodes"]),
        ("filled", shaped("ConstantOfShape", &["s"], &[1 << 40]), full, &["my ConstantOfShape", ELEMENTS]),
        (
            "overflowing",
            shaped("ConstantOfShape", &["s"], &[1 << 62, 1 << 62]),
            full,
            &["my ConstantOfShape", ELEMENTS],
        ),
        ("expanded", shaped("Expand", &["x", "s"], &[1 << 40]), full, &["my Expand", ELEMENTS]),
        ("tiled", shaped("Tile", &["x", "s"], &[1 << 62]), full, &["my Tile", ELEMENTS]),
        (
            "ranged",
            y_of(node("Range", &["a", "e", "d"], &["y"], &[]), range),
            invalid,
            &["my Range", "1125899906842624"],
        ),
        ("wide", wide, full, &["my Neg", ELEMENTS]),
    ]
}

#[test]
fn each_bad_file_is_refused_with_its_reason_and_costs_nobody_anything() {
    if !has_adapter() {
        return;
    }
    let (command, folder) = command(&[], &["--version_settle_ms=0", "--strict_paths", "--ready=any"]);
    let cases = cases();
    let nan = plus(constant("w", FLOAT, &[1], &raw(&f32::NAN.to_le_bytes())));
    let right = plus(constant("w", FLOAT, &[1], &raw(&2.0_f32.to_le_bytes())));
    // A name that is taken over by nothing, and a field that nobody knows.
    let odd = [right.clone(), field(1000, b"?"), number(1001, 1)].concat();
    let good = [("nan", nan), ("right", right), ("odd", odd)];
    let mut entries = String::new();
    let files = cases.iter().map(|(name, file, ..)| (*name, file)).chain(good.iter().map(|(name, file)| (*name, file)));
    for (name, file) in files {
        let version = folder.path().join(name).join("1");
        std::fs::create_dir_all(&version).expect("writable");
        std::fs::write(version.join("model.onnx"), file).expect("writable");
        std::fs::write(version.join("w"), [0; 3]).expect("writable");
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path().join("w"), version.join("l")).expect("links can be made");
        entries += &format!(
            "config {{ name: '{name}' base_path: '{}' model_platform: 'tensorflow' }}\n",
            folder.path().join(name).display()
        );
    }
    std::fs::write(folder.path().join("w"), [0; 64]).expect("writable");
    std::fs::write(folder.path().join("models.config"), format!("model_config_list {{ {entries} }}"))
        .expect("writable");
    let server = Server::launch(command, folder);
    let mut wrong = Vec::new();
    for (name, _, code, parts) in cases {
        if name == "link" && cfg!(not(unix)) {
            continue;
        }
        let page = ask(&server.http, "GET", &format!("/v1/models/{name}"), &[], b"").json();
        let version = &page["model_version_status"][0];
        let (state, status) = (&version["state"], &version["status"]);
        let told = status["error_message"].as_str().expect("a text");
        let is_told = told.contains(name) && parts.iter().all(|part| told.contains(part));
        if state != "END" || status["error_code"] != code || !is_told {
            wrong.push(format!("{name}: {version}, expected {code} {parts:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let answer =
        |name: &str| ask(&server.http, "POST", &format!("/v1/models/{name}:predict"), &[], br#"{"instances": [1.0]}"#);
    assert_eq!(answer("right").json(), json!({"predictions": [3.0]}));
    assert_eq!(answer("odd").json(), json!({"predictions": [3.0]}));
    assert_eq!(answer("nan").text(), r#"{"predictions":[NaN]}"#);
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    if let Ok(text) = std::fs::read_to_string(Path::new("/proc").join(server.id().to_string()).join("status")) {
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the system tells");
        let peak: u64 = peak.trim().trim_end_matches("kB").trim().parse().expect("a number");
        assert!(peak < PEAK_KIB_MAX, "{peak} KiB were held");
    }
}
