//! docs/operators.md is what the registry and the recorded conformance results say, no more and no less.
//!
//! `CORACLE_UPDATE_DOCS=1 cargo test --test operators` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// What people should know of an operator that its results do not say.
const LIMITS: &[(&str, &str)] = &[
    ("DFT", "computed as a matrix product: time grows with the square of the length"),
    ("STFT", "computed as matrix products: time grows with the square of the frame length"),
    ("ImageDecoder", "JPEG, PNG, BMP, TIFF, WebP, PNM; JPEG pixels may differ by 2 of 255 from other decoders"),
    ("Loop", "unrolled where the number of rounds is known before it begins (up to 65,536 nodes), else on the host"),
    ("com.microsoft:Attention", "no masks of four axes, no shared past, no rotation"),
    ("com.microsoft:MatMulNBits", "4 and 8 bits; no g_idx"),
    ("com.microsoft:GroupQueryAttention", "no smooth softmax, no quantised caches"),
    ("Scan", "unrolled (up to 262,144 nodes)"),
    ("If", "a condition computed on the device is fetched, then the branch taken is compiled"),
    ("SequenceAt", "sequences of up to 512 values are followed, so that tensors in them stay on the device"),
    ("StringNormalizer", "Unicode's letter cases, whatever the locale"),
    ("ai.onnx.ml:TreeEnsemble", "without the transform PROBIT"),
    ("Dropout", "passes its input on; training mode draws at random on the host"),
];

/// Why cases do not pass, by the beginning and the end of their names.
const REASONS: &[(&str, &str, &str)] = &[
    (
        "test_attention_",
        "_bf16",
        "numpy adds the weights of a row one after another in bf16; here they are added in f32 and rounded once",
    ),
    (
        "test_attention_",
        "_bf16_expanded",
        "numpy adds the weights of a row one after another in bf16; here they are added in f32 and rounded once",
    ),
    ("test_bernoulli", "", "the expected numbers are drawn by numpy's generator"),
    ("test_training_dropout", "", "the expected numbers are drawn by numpy's generator"),
    ("test_dft_inverse", "", "the result is 0 up to rounding; numpy's rounding is expected to 10⁻⁷"),
    ("test_image_decoder_decode_jpeg_", "", "pixels differ by 1 of 255 from Pillow's"),
    ("test_image_decoder_decode_jpeg2k", "", "there is no well-kept decoder of JPEG 2000 in Rust"),
];

/// One case of the suite.
struct Case {
    name: String,
    result: String,
    operators: Vec<String>,
    types: Vec<String>,
    why: String,
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn cases() -> Vec<Case> {
    let words = |text: Option<&str>| text.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let text = read("tests/conformance/onnx-node-suite.tsv");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let case = |line: &str| {
        let mut columns = line.split('\t');
        let mut next = || columns.next();
        Case {
            name: next().expect("a name").to_owned(),
            result: next().expect("a result").to_owned(),
            operators: words(next()),
            types: words(next()),
            why: next().unwrap_or_default().to_owned(),
        }
    };
    lines.map(case).collect()
}

/// The versions of every operator of the standard, by domain and name.
fn versions() -> BTreeMap<(String, String), String> {
    let text = read("tests/conformance/onnx-versions.tsv");
    let line = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        ((columns[0].to_owned(), columns[1].to_owned()), columns[2].replace(' ', ", "))
    };
    text.lines().map(line).collect()
}

fn passes(case: &Case) -> bool {
    matches!(case.result.as_str(), "device" | "host")
}

/// `DOMAIN:NAME`, or the name alone for ONNX's own.
fn full_name(domain: &str, name: &str) -> String {
    if domain.is_empty() { name.to_owned() } else { format!("{domain}:{name}") }
}

/// Why a case does not pass.
fn reason(name: &str) -> &'static str {
    let found = REASONS.iter().find(|(begins, ends, _)| name.starts_with(begins) && name.ends_with(ends));
    found.unwrap_or_else(|| panic!("{name} does not pass: say why in REASONS")).2
}

fn list(words: &BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The row of one operator.
fn row(domain: &str, name: &str, own: &[&Case], versions: Option<&String>) -> String {
    let types = |result: &str| -> BTreeSet<String> {
        own.iter().filter(|c| c.result == result).flat_map(|c| c.types.iter().cloned()).collect()
    };
    let reasons: BTreeSet<String> = own
        .iter()
        .filter(|c| c.result == "host")
        .flat_map(|c| c.why.split("; "))
        .filter_map(|step| step.splitn(3, ':').nth(2).map(str::to_owned))
        .collect();
    let device = own.iter().any(|c| c.result == "device");
    let place = match (device, reasons.is_empty()) {
        _ if own.is_empty() => String::new(),
        (true, true) => "device".to_owned(),
        (true, false) => format!("device; host: {}", list(&reasons)),
        (false, false) => format!("host: {}", list(&reasons)),
        (false, true) => "not yet right".to_owned(),
    };
    let only_host: BTreeSet<String> = types("host").difference(&types("device")).cloned().collect();
    let mut checked = list(&types("device"));
    if !only_host.is_empty() {
        let _ = write!(checked, "{}host: {}", if checked.is_empty() { "" } else { "; " }, list(&only_host));
    }
    let count = match own.len() {
        0 => "own tests".to_owned(),
        all => format!("{} of {all}", own.iter().filter(|c| passes(c)).count()),
    };
    let full = full_name(domain, name);
    let limit = LIMITS.iter().find(|(n, _)| *n == full).map_or("", |(_, limit)| *limit);
    let since = versions.map_or("1", String::as_str);
    format!("| {full} | {since} | {checked} | {place} | {count} | {limit} |\n")
}

fn render() -> String {
    let (cases, versions) = (cases(), versions());
    let count = |result: &str| cases.iter().filter(|c| c.result == result).count();
    let mut text = format!(
        "# Operators\n\n\
         Written by `CORACLE_UPDATE_DOCS=1 cargo test --test operators` from the registry and from what ONNX's node suite gave\n\
         (`scripts/onnx-node-suite`, `scripts/record-node-suite`); a test holds it to both.\n\n\
         Of the suite's {} cases {} pass: {} with everything on the device (Mesa's lavapipe), {} with steps on the host. A model may\n\
         ask for any opset from 7 to 28, and for older ones where the operator has not changed since. *Versions* are those at which the\n\
         standard changed the operator; *types* are the element types in the cases that pass; *cases* count the suite's models of this\n\
         operator alone. Operators without such cases are held by tests in this repository against independently computed values.\n\n\
         64-bit integers and floats are computed with as such where the adapter has them, as Mesa's does; elsewhere 64-bit integers are\n\
         moved as 32-bit ones after a check of their range and computed with on the host, where u64 and f64 stay. Elements below 32 bits\n\
         are computed with at 32 bits and rounded or wrapped to their own.\n\n\
         | operator | versions | types | runs on | cases | limits |\n|---|---|---|---|---|---|\n",
        cases.len(),
        count("device") + count("host"),
        count("device"),
        count("host"),
    );
    let mut names: Vec<_> = coracle::engine::ops::names().collect();
    names.sort_unstable();
    for (domain, name) in names {
        let full = full_name(domain, name);
        let own: Vec<&Case> = cases.iter().filter(|c| c.operators == [full.as_str()]).collect();
        text += &row(domain, name, &own, versions.get(&(domain.to_owned(), name.to_owned())));
    }
    text += "\n## Cases that do not pass\n\n| case | result | why | what it says |\n|---|---|---|---|\n";
    for case in cases.iter().filter(|c| !passes(c)) {
        let (name, result, says) = (&case.name, &case.result, case.why.replace('|', "\\|"));
        let _ = writeln!(text, "| {name} | {result} | {} | {says} |", reason(name));
    }
    text
}

#[test]
fn the_page_is_what_the_registry_and_the_record_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md");
    let rendered = render();
    if std::env::var_os("CORACLE_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &rendered).expect("docs/ is writable");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == rendered, "docs/operators.md is out of date: CORACLE_UPDATE_DOCS=1 cargo test --test operators");
}

#[test]
fn no_operator_is_limited_twice_or_without_being_there() {
    let names: BTreeSet<String> = coracle::engine::ops::names().map(|(domain, name)| full_name(domain, name)).collect();
    let limited: Vec<&str> = LIMITS.iter().map(|(name, _)| *name).collect();
    assert_eq!(limited.iter().collect::<BTreeSet<_>>().len(), limited.len());
    assert!(limited.iter().all(|name| names.contains(*name)), "{limited:?}");
}
