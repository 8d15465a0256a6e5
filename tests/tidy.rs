//! The house rules as tables: who may import whom, which crate stays in which room, what no file may hold. A break is
//! reported as `file:line: rule`. Only the standard library is used, so `rustc --test tests/tidy.rs` runs it too.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may import. The longest prefix decides which room a path belongs to; a room may always
/// import itself. The rows stand in floor order: nothing imports a row above its own, save within one floor by name.
const FLOORS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "server",
            "api",
            "model",
            "formats",
            "batch",
            "engine",
            "engine::ir",
            "engine::ops",
            "engine::device",
            "engine::compile",
            "tensor",
            "error",
        ],
    ),
    ("server", &["api", "model", "fleet", "formats", "batch", "engine", "tensor", "error"]),
    ("api", &["model", "batch", "engine", "tensor", "error"]),
    ("model", &["fleet", "formats", "batch", "engine", "engine::ir", "tensor", "error"]),
    ("fleet", &["batch", "engine", "engine::ir", "tensor", "error"]),
    ("formats", &["engine::ops", "engine::ir", "tensor", "error"]),
    ("batch", &["tensor", "error"]),
    (
        "engine",
        &["engine::compile", "engine::ops", "engine::device", "engine::kernels", "engine::ir", "tensor", "error"],
    ),
    ("engine::compile", &["engine::kernels", "engine::ir", "tensor", "error"]),
    ("engine::ops", &["engine::kernels", "engine::ir", "tensor", "error"]),
    ("engine::device", &["engine::kernels", "engine::ir", "tensor", "error"]),
    ("engine::kernels", &["engine::ir"]),
    ("engine::ir", &["tensor", "error"]),
    ("tensor", &["error"]),
    ("error", &[]),
];

/// Crates that only some places may name, unit tests aside: paths are prefixes from the repository's root.
const WALLS: &[(&str, &[&str])] = &[
    ("wgpu", &["src/engine/device/"]),
    ("ash", &["src/engine/device/"]),
    ("windows", &["src/engine/device/"]),
    ("objc2", &["src/engine/device/"]),
    ("objc2_metal", &["src/engine/device/"]),
    ("naga", &["build.rs", "build/", "tests/"]),
    ("tonic", &["src/api/", "src/server/", "src/cli/client", "src/cli/predict", "src/cli/bench", "build/", "tests/"]),
    ("axum", &["src/api/", "src/server/", "tests/"]),
    ("http", &["src/api/", "src/server/", "tests/"]),
    ("hyper", &["src/server/", "tests/"]),
    ("hyper_util", &["src/server/", "tests/"]),
    ("tokio_rustls", &["src/server/", "tests/"]),
    ("prost", &["src/api/", "src/formats/", "src/server/config", "build/", "tests/", "benches/codecs"]),
    ("prost_reflect", &["src/api/", "src/formats/", "src/server/config", "build/", "tests/"]),
    ("anyhow", &["src/main.rs", "src/cli/"]),
];

/// Files that may hold `unsafe`, each use with a SAFETY comment within the lines before it.
const UNSAFE_FILES: &[&str] = &["src/engine/device/"];
const SAFETY_LINES: usize = 4;

/// Text that may stand nowhere in Rust sources. Spelt in two parts so that this file does not break its own rule.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("to", "do!("), "unfinished code"),
    (concat!("unimpl", "emented!("), "unfinished code"),
    (concat!("FIX", "ME"), "unfinished code"),
    (concat!("db", "g!("), "debugging output"),
    (concat!("\"/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
];

const ROOM_NAMES_FORBIDDEN: &[&str] = &["utils", "util", "helpers", "common", "misc"];
const LINES_MAX: usize = 450;
const MEDIAN_LINES_MAX: usize = 240;

/// Starts of the lines that a face (`lib.rs`, `mod.rs`) may hold besides comments and attributes.
const FACE_LINES: &[&str] = &[
    "mod ",
    "pub mod ",
    "pub(crate) mod ",
    "pub use ",
    "pub(crate) use ",
    "pub(super) use ",
    "pub(in ",
    "include!",
    "tonic::include",
];

/// Inline modules of a face are allowed for nothing but generated code.
const GENERATED: &str = "include";

fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// A Rust file: its path from the root with `/`, and its lines.
struct Source {
    path: String,
    lines: Vec<String>,
}

impl Source {
    fn is_face(&self) -> bool {
        self.path.ends_with("/mod.rs") || self.path == "src/lib.rs"
    }

    /// The module path of the file within the crate: `src/engine/ir/op.rs` is `engine::ir::op`.
    fn module(&self) -> String {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        path.replace('/', "::")
    }

    /// The lines, numbered from 1, with comments and string contents blanked; unit tests at the file's end included.
    fn code(&self) -> impl Iterator<Item = (usize, String)> {
        self.lines.iter().enumerate().map(|(index, line)| (index + 1, without_comment(line)))
    }

    /// As `code`, but only up to the unit tests: none of a file that holds nothing else.
    fn product_code(&self) -> impl Iterator<Item = (usize, String)> {
        let tests_alone = self.path.ends_with("/tests.rs") || self.path.ends_with("_tests.rs");
        self.code().take_while(move |(_, line)| !tests_alone && line.trim() != "#[cfg(test)]")
    }
}

/// A line without its `//` comment and without the contents of its string literals.
fn without_comment(line: &str) -> String {
    let mut kept = String::new();
    let (mut in_string, mut characters) = (false, line.chars().peekable());
    while let Some(c) = characters.next() {
        match c {
            '\\' if in_string => drop(characters.next()),
            '"' => {
                in_string = !in_string;
                kept.push(c);
            }
            '\'' if !in_string && characters.peek() == Some(&'"') => drop(characters.next()),
            '/' if !in_string && characters.peek() == Some(&'/') => break,
            _ if !in_string => kept.push(c),
            _ => {}
        }
    }
    kept
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(path: &Path, found: &mut Vec<Source>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("the folder is readable");
        entries.for_each(|entry| collect(&entry.expect("the entry is readable").path(), found));
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let text = fs::read_to_string(path).expect("a source file is UTF-8");
        let relative = path.strip_prefix(root()).expect("it was found below the root");
        let path = relative.to_string_lossy().replace('\\', "/");
        found.push(Source { path, lines: text.lines().map(String::from).collect() });
    }
}

/// Fails with every break of a rule, one a line.
fn report(breaks: &[String]) {
    assert!(breaks.is_empty(), "{} break(s):\n{}\n", breaks.len(), breaks.join("\n"));
}

/// The room of a module path: the longest row of FLOORS that begins it.
fn room(module: &str) -> Option<&'static str> {
    let inside = |room: &str| module == room || module.strip_prefix(room).is_some_and(|rest| rest.starts_with("::"));
    FLOORS.iter().map(|(room, _)| *room).filter(|room| inside(room)).max_by_key(|room| room.len())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Places where `word` begins in `line` as a whole word followed by `after`.
fn mentions(line: &str, word: &str, after: &str) -> Vec<usize> {
    let target = format!("{word}{after}");
    let whole = |&(at, _): &(usize, &str)| !line[..at].ends_with(|c: char| is_word(c) || c == ':');
    line.match_indices(&target).filter(whole).map(|(at, _)| at).collect()
}

/// Paths that the file names through `prefix` (`crate::`, `coracle::`), with braces opened one level, and their lines.
/// A `use` may run over several lines, so lines up to its semicolon are joined first.
fn paths(source: &Source, prefix: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut statement: Option<(usize, String)> = None;
    for (number, line) in source.code() {
        let (start, text) = match statement.take() {
            Some((start, text)) => (start, text + line.trim()),
            None => (number, line),
        };
        let uses = text.trim_start().starts_with("use ") || text.trim_start().starts_with("pub use ");
        if uses && !text.contains(';') {
            statement = Some((start, text));
            continue;
        }
        for at in mentions(&text, prefix, "::") {
            found.extend(opened(&text[at + prefix.len() + 2..]).into_iter().map(|path| (start, path)));
        }
    }
    found
}

/// The paths of one use tree: `a::{b, c::d}` is `a::b` and `a::c::d`; deeper braces stay cut off at the brace.
fn opened(tree: &str) -> Vec<String> {
    let head: String = tree.chars().take_while(|&c| is_word(c) || c == ':').collect();
    let Some(inside) = tree[head.len()..].strip_prefix('{') else { return vec![head] };
    let mut depth = 0;
    let item = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0 && c == ',' || depth < 0
    };
    let parts = inside.split(item).map(str::trim).filter(|part| part.starts_with(is_word));
    parts.map(|part| head.clone() + &part.chars().take_while(|&c| is_word(c) || c == ':').collect::<String>()).collect()
}

#[test]
fn use_trees_open_into_paths() {
    assert_eq!(opened("engine::ir::Op;"), ["engine::ir::Op"]);
    assert_eq!(
        opened("tensor::{self, shape::{Shape, Dim}, Tensor};"),
        ["tensor::self", "tensor::shape::", "tensor::Tensor"]
    );
    let lines = ["use crate::{", "    model::Servable, // the room above", "};", "let text = \"crate::api::Codec\";"];
    let source = Source { path: "src/batch/queue.rs".into(), lines: lines.map(String::from).to_vec() };
    assert_eq!(paths(&source, "crate"), [(1, "model::Servable".into())]);
    assert_eq!((room("engine::ir::op"), room("engineer")), (Some("engine::ir"), None));
}

#[test]
fn rooms_import_only_rooms_below_them() {
    let mut breaks = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| source.path != "src/lib.rs") {
        let module = source.module();
        let Some(home) = room(&module) else {
            breaks.push(format!("{}:1: no room of tests/tidy.rs holds this file", source.path));
            continue;
        };
        let allowed = FLOORS.iter().find(|(room, _)| *room == home).map_or(&[][..], |(_, allowed)| *allowed);
        let own_crate = if home == "main" { "coracle" } else { "crate" };
        for (line, path) in paths(source, own_crate) {
            match room(&path) {
                Some(other) if other == home || allowed.contains(&other) => {}
                Some(other) => breaks.push(format!("{}:{line}: {home} may not import {other} ({path})", source.path)),
                None => breaks.push(format!("{}:{line}: {path} is a root re-export or no room", source.path)),
            }
        }
    }
    report(&breaks);
}

#[test]
fn the_floors_have_no_circle() {
    let mut settled: Vec<&str> = Vec::new();
    while settled.len() < FLOORS.len() {
        let ready = |(room, below): &&(&str, &[&str])| {
            !settled.contains(room) && below.iter().all(|other| settled.contains(other))
        };
        let next = FLOORS.iter().find(ready).map(|(room, _)| *room);
        settled.push(next.expect("a circle, or a room without a row, among the rooms not yet settled"));
    }
}

#[test]
fn no_file_imports_its_own_rooms_face() {
    let mut breaks = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| !source.is_face()) {
        let module = source.module();
        let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
        let of_face = |path: &str| path.starts_with(|c: char| c.is_uppercase());
        for (line, path) in source.product_code().flat_map(|(line, text)| super_paths(line, &text)) {
            if of_face(&path) {
                breaks.push(format!("{}:{line}: super::{path} is the room's own face; name its module", source.path));
            }
        }
        for (line, path) in paths(source, "crate") {
            let own = path.strip_prefix(parent).and_then(|rest| rest.strip_prefix("::"));
            if !parent.is_empty() && own.is_some_and(of_face) {
                breaks.push(format!("{}:{line}: {path} is the room's own face; name its module", source.path));
            }
        }
    }
    report(&breaks);
}

fn super_paths(line: usize, text: &str) -> Vec<(usize, String)> {
    mentions(text, "super", "::").into_iter().flat_map(|at| opened(&text[at + 7..])).map(|path| (line, path)).collect()
}

#[test]
fn faces_only_declare() {
    let mut breaks = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| source.is_face()) {
        let mut open_use = false;
        for (number, line) in source.code() {
            let text = line.trim();
            let inline = text.ends_with('{') && text.contains("mod ");
            let generated = source.lines.get(number).is_some_and(|next| next.contains(GENERATED));
            let declares = FACE_LINES.iter().any(|start| text.starts_with(start)) && (!inline || generated);
            if !(text.is_empty()
                || text == "}"
                || text.starts_with("#[")
                || text.starts_with("#![")
                || open_use
                || declares)
            {
                breaks.push(format!("{}:{number}: a face holds only docs, mod and pub use", source.path));
            }
            open_use = (open_use || text.contains("use ")) && !text.ends_with(';');
        }
    }
    report(&breaks);
}

#[test]
fn crates_stay_behind_their_walls() {
    let mut breaks = Vec::new();
    for source in sources(&["src", "build", "tests", "benches"]) {
        for (krate, places) in WALLS.iter().filter(|(_, places)| !places.iter().any(|p| source.path.starts_with(p))) {
            for (number, line) in source.product_code().filter(|(_, line)| !mentions(line, krate, "::").is_empty()) {
                let only = places.join(", ");
                breaks.push(format!("{}:{number}: {krate} belongs to {only}: {}", source.path, line.trim()));
            }
        }
    }
    report(&breaks);
}

#[test]
fn unsafe_code_is_listed_and_argued() {
    let mut breaks = Vec::new();
    for source in sources(&["src", "build", "benches"]) {
        for (number, _) in source.code().filter(|(_, line)| !mentions(line, "unsafe", " ").is_empty()) {
            if !UNSAFE_FILES.iter().any(|place| source.path.starts_with(place)) {
                breaks.push(format!("{}:{number}: unsafe outside the files listed for it", source.path));
            }
            let above = &source.lines[number.saturating_sub(1 + SAFETY_LINES)..number];
            if !above.iter().any(|line| line.contains("SAFETY:")) {
                breaks.push(format!("{}:{number}: unsafe without a SAFETY comment above it", source.path));
            }
        }
    }
    report(&breaks);
}

#[test]
fn nothing_unfinished_or_local_is_left() {
    let mut breaks = Vec::new();
    for source in sources(&["src", "build", "tests", "benches"]) {
        for (index, line) in source.lines.iter().enumerate() {
            for (text, what) in FORBIDDEN.iter().filter(|(text, _)| line.contains(text)) {
                breaks.push(format!("{}:{}: {what}: {text}", source.path, index + 1));
            }
        }
    }
    report(&breaks);
}

#[test]
fn library_code_does_not_panic_by_unwrap() {
    let mut breaks = Vec::new();
    for source in sources(&["src"]) {
        for (number, _) in
            source.product_code().filter(|(_, line)| line.contains(".unwrap()") || line.contains("panic!("))
        {
            breaks.push(format!("{}:{number}: unwrap or panic in library code", source.path));
        }
    }
    report(&breaks);
}

#[test]
fn files_are_short_and_named_for_their_job() {
    let mut breaks = Vec::new();
    let sources = sources(&["src"]);
    for source in &sources {
        if source.lines.len() > LINES_MAX {
            breaks.push(format!("{}:{LINES_MAX}: {} lines, more than {LINES_MAX}", source.path, source.lines.len()));
        }
        for name in source.module().split("::").filter(|name| ROOM_NAMES_FORBIDDEN.contains(name)) {
            breaks.push(format!("{}:1: the name {name} says no job", source.path));
        }
    }
    let mut lengths: Vec<usize> = sources.iter().filter(|source| !source.is_face()).map(|s| s.lines.len()).collect();
    lengths.sort_unstable();
    if lengths.get(lengths.len() / 2).is_some_and(|&median| median > MEDIAN_LINES_MAX) {
        breaks.push(format!("src:1: the median file is longer than {MEDIAN_LINES_MAX} lines"));
    }
    report(&breaks);
}

#[test]
fn links_in_documents_lead_to_files() {
    let mut breaks = Vec::new();
    let mut documents = vec![root().join("README.md"), root().join("ARCHITECTURE.md"), root().join("CHANGELOG.md")];
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
        documents.extend(entries.map(|entry| entry.expect("the entry is readable").path()));
    }
    for document in documents.iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(document).expect("the document is there");
        for (index, line) in text.lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
                let folder = document.parent().expect("a file has a folder");
                if !link.is_empty() && !link.contains("://") && !folder.join(link).exists() {
                    breaks.push(format!("{}:{}: dead link {link}", document.display(), index + 1));
                }
            }
        }
    }
    report(&breaks);
}

#[cfg(unix)]
#[test]
fn scripts_are_executable() {
    use std::os::unix::fs::PermissionsExt;

    let mut breaks = Vec::new();
    for folder in ["scripts", ".ci"] {
        for entry in fs::read_dir(root().join(folder)).expect("the folder is there") {
            let path = entry.expect("the entry is readable").path();
            let mode = fs::metadata(&path).expect("the file is there").permissions().mode();
            if path.is_file() && path.extension().is_none() && mode & 0o111 == 0 {
                breaks.push(format!("{}:1: a script that nobody can run", path.display()));
            }
        }
    }
    report(&breaks);
}
