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
    ("Scan", "unrolled (up to 262,144 nodes)"),
    ("If", "a condition computed on the device is fetched, then the branch taken is compiled"),
    ("SequenceAt", "sequences of up to 512 values are followed, so that tensors in them stay on the device"),
    ("StringNormalizer", "Unicode's letter cases, whatever the locale"),
    ("TreeEnsemble", "without the transform PROBIT"),
    ("Dropout", "passes its input on; training mode draws at random on the host"),
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
    let limit = LIMITS.iter().find(|(n, _)| *n == name).map_or("", |(_, limit)| *limit);
    let full = if domain.is_empty() { name.to_owned() } else { format!("{domain}:{name}") };
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
         64-bit integers are moved as 32-bit ones after a check of their range, and computed with on the host; f64 and u64 stay on the\n\
         host. Elements below 32 bits are computed with at 32 bits and rounded or wrapped to their own.\n\n\
         | operator | versions | types | runs on | cases | limits |\n|---|---|---|---|---|---|\n",
        cases.len(),
        count("device") + count("host"),
        count("device"),
        count("host"),
    );
    let mut names: Vec<_> = coracle::engine::ops::names().collect();
    names.sort_unstable();
    for (domain, name) in names {
        let full = if domain.is_empty() { name.to_owned() } else { format!("{domain}:{name}") };
        let own: Vec<&Case> = cases.iter().filter(|c| c.operators == [full.as_str()]).collect();
        text += &row(domain, name, &own, versions.get(&(domain.to_owned(), name.to_owned())));
    }
    text += "\n## Cases that do not pass\n\n| case | result | why |\n|---|---|---|\n";
    for case in cases.iter().filter(|c| !passes(c)) {
        let _ = writeln!(text, "| {} | {} | {} |", case.name, case.result, case.why.replace('|', "\\|"));
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
    let names: BTreeSet<&str> = coracle::engine::ops::names().map(|(_, name)| name).collect();
    let limited: Vec<&str> = LIMITS.iter().map(|(name, _)| *name).collect();
    assert_eq!(limited.iter().collect::<BTreeSet<_>>().len(), limited.len());
    assert!(limited.iter().all(|name| names.contains(name)), "{limited:?}");
}
