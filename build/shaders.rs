//! shaders/ → constants: every file × variant is parsed and validated, its bindings and parameters are reflected.
//!
//! A shader's leading comment may hold
//! `// uses: NAME, …` (files of shaders/lib put behind it),
//! `// target: BUFFER` (it stores through `store(value, i, c)`, which writes that buffer; `// target: BUFFER wide` where it is an
//! array of vectors of four: `store4` writes one of them), and any number of
//! `// variants: NAME = f32 f16 i32 u32` or `// variants: const NAME = 4 8` (what its header may define).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

struct Source {
    stem: String,
    text: String,
    /// Its name, and whether it is wide.
    target: Option<(String, bool)>,
    variants: Vec<(String, bool, Vec<String>)>,
}

/// Validates everything and writes `shaders.rs`.
pub(super) fn compile(out: &Path) {
    println!("cargo:rerun-if-changed=shaders");
    let library: Vec<String> = ["pointwise", "pointwise_wide"]
        .map(|name| std::fs::read_to_string(format!("shaders/lib/{name}.wgsl")).expect("the library is there"))
        .into();
    let library = library.concat();
    let functions = split_functions(&library);
    // Whatever takes a chain has these, too.
    let indices = std::fs::read_to_string("shaders/lib/index.wgsl").expect("the library is there");
    validate("shaders/lib/pointwise.wgsl and pointwise_wide.wgsl", &format!("{library}{indices}"));

    let mut rust = String::from("// Made by build.rs from shaders/.\n");
    let mut stems = Vec::new();
    for path in files("shaders") {
        let source = read(&path);
        let mut reflected = None;
        for header in headers(&source) {
            // 16-bit floats are computed with in 32 bits.
            let out = header.split("alias Out = ").nth(1).and_then(|rest| rest.split(';').next());
            let class = out.filter(|out| *out != "f16").unwrap_or("f32");
            let mut text = String::new();
            if header.contains("f16") {
                text.push_str("enable f16;\n");
            }
            let _ = write!(text, "alias Value = {class};\n{header}");
            let offset = text.lines().count();
            text.push_str(&source.text);
            match &source.target {
                Some((target, false)) => {
                    let _ = writeln!(text, "fn store(value: Value, i: u32, c: u32) {{ {target}[i] = Out(value); }}");
                }
                Some((target, true)) => {
                    let _ = writeln!(
                        text,
                        "fn store(value: Value, i: u32, c: u32) {{ {target}[i >> 2u][i & 3u] = Out(value); }}\n\
                         fn store4(value: vec4<Value>, i: u32, c: u32) {{ {target}[i >> 2u] = vec4<Out>(value); }}"
                    );
                }
                None => {}
            }
            let module = validate_at(&path, &text, offset, &header);
            reflected.get_or_insert(module);
        }
        let module = reflected.expect("a shader has at least one variant");
        emit(&mut rust, &source, &module);
        stems.push(source.stem);
    }
    for stem in ["attention", "patches", "span"] {
        let text: String = ["index", stem]
            .map(|name| std::fs::read_to_string(format!("shaders/lib/{name}.wgsl")).expect("readable"))
            .concat();
        // Kernels bind it where they will.
        let module = validate("shaders/lib", &format!("var<private> params: Params;\n{text}"));
        let params = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Params")).expect("it has Params").0;
        let _ = writeln!(
            rust,
            "/// `shaders/lib/{stem}.wgsl`.\npub mod {stem} {{\n{}}}",
            params_struct(&module, params, stem)
        );
    }
    let all: Vec<String> = stems.iter().map(|stem| format!("(&{stem}::SHADER, {stem}::HEADERS)")).collect();
    let _ = writeln!(
        rust,
        "/// Every shader file with every header it was validated with.\npub static ALL: &[(&super::super::ir::Shader, &[&str])] = &[{}];",
        all.join(", ")
    );
    let names: Vec<&String> = functions.keys().collect();
    let _ =
        writeln!(rust, "/// The functions that fused chains may call.\npub static FUNCTIONS: &[&str] = &{names:?};");
    rust.push_str("/// The texts of a pointwise function and of those it calls, each once.\npub fn function(name: &str) -> Option<&'static [&'static str]> {\n    Some(match name {\n");
    for name in functions.keys() {
        let mut needed = Vec::new();
        collect(name, &functions, &mut needed);
        let texts: Vec<&str> = needed.iter().map(|n| functions[n.as_str()].as_str()).collect();
        let _ = writeln!(rust, "        {name:?} => &{texts:?},");
    }
    // WGSL's own functions of one or two floats need no text.
    rust.push_str("        \"abs\" | \"sign\" | \"exp\" | \"sqrt\" | \"floor\" | \"ceil\" | \"round\" | \"sin\" | \"cos\" | \"tan\" | \"asin\" | \"acos\" | \"atan\" | \"sinh\" | \"cosh\" | \"asinh\" | \"acosh\" | \"atanh\" => &[],\n");
    rust.push_str("        _ => return None,\n    })\n}\n");
    std::fs::write(out.join("shaders.rs"), rust).expect("OUT_DIR is writable");
}

fn files(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<String> = entries
        .map(|e| e.expect("readable").path().to_string_lossy().replace('\\', "/"))
        .filter(|p| p.ends_with(".wgsl"))
        .collect();
    paths.sort();
    paths
}

fn read(path: &str) -> Source {
    let mut text = std::fs::read_to_string(path).expect("readable");
    let stem = Path::new(path).file_stem().expect("a file").to_string_lossy().into_owned();
    let mut source = Source { stem, text: String::new(), target: None, variants: Vec::new() };
    let mut libraries = Vec::new();
    for line in text.lines().take_while(|l| l.starts_with("//")) {
        if let Some(names) = line.strip_prefix("// uses:") {
            libraries.extend(names.split(',').map(|n| format!("shaders/lib/{}.wgsl", n.trim())));
        } else if let Some(name) = line.strip_prefix("// target:") {
            let (name, wide) = match name.trim().strip_suffix(" wide") {
                Some(name) => (name, true),
                None => (name.trim(), false),
            };
            source.target = Some((name.to_owned(), wide));
        } else if let Some(variant) = line.strip_prefix("// variants:") {
            let (name, values) = variant.split_once('=').unwrap_or_else(|| panic!("{path}: {line}"));
            let (is_const, name) = match name.trim().strip_prefix("const ") {
                Some(name) => (true, name.trim()),
                None => (false, name.trim()),
            };
            source.variants.push((name.to_owned(), is_const, values.split_whitespace().map(str::to_owned).collect()));
        }
    }
    for library in libraries {
        text.push_str(&std::fs::read_to_string(&library).unwrap_or_else(|e| panic!("{path} uses {library}: {e}")));
    }
    source.text = text;
    source
}

/// Every combination of constants under types that vary together: each type of each alias once beside its like and once beside
/// others. `Out` takes every storage when a shader has a target and no `Out` variants.
fn headers(source: &Source) -> Vec<String> {
    let mut variants = source.variants.clone();
    if source.target.is_some() && !variants.iter().any(|(name, ..)| name == "Out") {
        variants.push(("Out".into(), false, vec!["f32".into(), "f16".into()]));
    }
    let (constants, aliases): (Vec<_>, Vec<_>) = variants.iter().partition(|(_, is_const, _)| *is_const);
    let longest = aliases.iter().map(|(.., values)| values.len()).max().unwrap_or(1);
    let types = |turn: usize, shift: usize| -> String {
        let line = |(position, (name, _, values)): (usize, &&(String, bool, Vec<String>))| {
            format!("alias {name} = {};\n", values[(turn + shift * position) % values.len()])
        };
        aliases.iter().enumerate().map(line).collect()
    };
    let mut headers: Vec<String> =
        (0..2).flat_map(|s| (0..longest).map(move |t| (t, s))).map(|(t, s)| types(t, s)).collect();
    headers.sort_unstable();
    headers.dedup();
    for (name, _, values) in constants {
        let lines: Vec<String> = values.iter().map(|value| format!("const {name}: u32 = {value}u;\n")).collect();
        headers = headers.iter().flat_map(|h| lines.iter().map(move |l| format!("{h}{l}"))).collect();
    }
    headers
}

fn validate(path: &str, text: &str) -> naga::Module {
    validate_at(path, text, 0, "")
}

fn validate_at(path: &str, text: &str, offset: usize, header: &str) -> naga::Module {
    let variant = header.replace('\n', " ");
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|error| {
        let line = error.location(text).map_or(0, |l| (l.line_number as usize).saturating_sub(offset));
        panic!("{path}:{line}: [{variant}] {}\n{}", error.message(), error.emit_to_string(text));
    });
    let flags = naga::valid::ValidationFlags::all();
    let checked = naga::valid::Validator::new(flags, naga::valid::Capabilities::all()).validate(&module);
    if let Err(error) = checked {
        let line = error.location(text).map_or(0, |l| (l.line_number as usize).saturating_sub(offset));
        panic!("{path}:{line}: [{variant}] {}", error.emit_to_string(text));
    }
    module
}

/// Function name → text. A function starts at a line `fn NAME(` and ends at a line `}`.
fn split_functions(library: &str) -> BTreeMap<String, String> {
    let mut functions = BTreeMap::new();
    let mut open: Option<(String, String)> = None;
    for line in library.lines() {
        if let Some(rest) = line.strip_prefix("fn ") {
            open = Some((rest.split('(').next().unwrap_or_default().to_owned(), String::new()));
        }
        if let Some((name, mut text)) = open.take() {
            text.push_str(line);
            text.push('\n');
            if line.starts_with('}') || (line.starts_with("fn ") && line.ends_with('}')) {
                functions.insert(name, text);
            } else {
                open = Some((name, text));
            }
        }
    }
    functions
}

fn collect(name: &str, functions: &BTreeMap<String, String>, needed: &mut Vec<String>) {
    if needed.iter().any(|n| n == name) {
        return;
    }
    needed.push(name.to_owned());
    for callee in functions.keys().filter(|c| functions[name].contains(&format!("{c}("))) {
        // A name may end another's: only a call that starts the identifier counts.
        let called = functions[name]
            .match_indices(&format!("{callee}("))
            .any(|(at, _)| !functions[name][..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        if called {
            collect(callee, functions, needed);
        }
    }
}

fn emit(rust: &mut String, source: &Source, module: &naga::Module) {
    let mut bindings: Vec<_> = module
        .global_variables
        .iter()
        .filter_map(|(_, v)| Some((v.binding.as_ref()?, v)))
        .inspect(|(b, _)| assert_eq!(b.group, 0, "{}: only group 0 is used", source.stem))
        .collect();
    bindings.sort_by_key(|(b, _)| b.binding);
    let mut kinds = Vec::new();
    let mut params = String::new();
    for (index, (binding, variable)) in bindings.iter().enumerate() {
        assert_eq!(binding.binding as usize, index, "{}: bindings are numbered from 0 without gaps", source.stem);
        kinds.push(match variable.space {
            naga::AddressSpace::Uniform => {
                assert_eq!(index + 1, bindings.len(), "{}: the uniform stands last", source.stem);
                params = params_struct(module, variable.ty, &source.stem);
                "Binding::Uniform"
            }
            naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => {
                "Binding::ReadWrite"
            }
            naga::AddressSpace::Storage { .. } => "Binding::Read",
            _ => panic!("{}: a binding is neither storage nor uniform", source.stem),
        });
    }
    let (stem, text) = (&source.stem, &source.text);
    let target = match &source.target {
        Some((buffer, wide)) => format!("Some(Target {{ buffer: {buffer:?}, wide: {wide} }})"),
        None => "None".to_owned(),
    };
    let variants: Vec<_> = headers(source);
    let _ = writeln!(
        rust,
        "/// `shaders/{stem}.wgsl`.\npub mod {stem} {{\n    #[allow(unused_imports)]\n    use super::super::super::ir::{{Binding, Shader, Target}};\n    /// The shader.\n    \
         pub static SHADER: Shader = Shader {{\n        name: {stem:?},\n        source: std::borrow::Cow::Borrowed({text:?}),\n        \
         bindings: &[{}],\n        target: {target},\n    }};\n    /// Every header it was validated with.\n    pub static HEADERS: &[&str] = &{variants:?};\n{params}}}",
        kinds.join(", ")
    );
}

/// The Rust twin of a shader's `Params`: same names, same order, 4-byte words.
fn params_struct(module: &naga::Module, ty: naga::Handle<naga::Type>, stem: &str) -> String {
    let naga::TypeInner::Struct { members, span } = &module.types[ty].inner else {
        panic!("{stem}: the uniform is a struct");
    };
    let mut text = String::from(
        "    /// The shader's parameters.\n    #[allow(missing_docs)]\n    #[repr(C)]\n    #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]\n    pub struct Params {\n",
    );
    let mut end = 0;
    for member in members {
        let name = member.name.as_deref().expect("members have names");
        let (rust, words) = rust_type(module, member.ty, stem);
        assert_eq!(member.offset, end, "{stem}: Params.{name} leaves a gap: order members so that none is padded");
        end = member.offset + words * 4;
        let _ = writeln!(text, "        pub {name}: {rust},");
    }
    assert!(*span >= end, "{stem}: Params is longer than its members");
    text.push_str("    }\n    impl Params {\n        /// The words of the uniform buffer.\n        pub fn words(&self) -> &[u32] {\n            bytemuck::cast_slice(std::slice::from_ref(self))\n        }\n    }\n");
    text
}

fn rust_type(module: &naga::Module, ty: naga::Handle<naga::Type>, stem: &str) -> (String, u32) {
    let scalar = |s: naga::Scalar| match (s.kind, s.width) {
        (naga::ScalarKind::Uint, 4) => "u32",
        (naga::ScalarKind::Sint, 4) => "i32",
        (naga::ScalarKind::Float, 4) => "f32",
        _ => panic!("{stem}: Params holds only 32-bit scalars"),
    };
    match &module.types[ty].inner {
        naga::TypeInner::Scalar(s) => (scalar(*s).to_owned(), 1),
        naga::TypeInner::Vector { size: naga::VectorSize::Quad, scalar: s } => (format!("[{}; 4]", scalar(*s)), 4),
        naga::TypeInner::Array { base, size: naga::ArraySize::Constant(n), .. } => {
            let (inner, words) = rust_type(module, *base, stem);
            assert_eq!(words, 4, "{stem}: arrays in Params hold vec4");
            (format!("[{inner}; {n}]"), words * n.get())
        }
        other => panic!("{stem}: Params cannot hold {other:?}"),
    }
}
