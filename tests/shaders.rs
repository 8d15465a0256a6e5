//! Every shader in every variant, translated for Vulkan, Direct3D and Metal: a machine with one of them guards the others.

use coracle::engine::ir::Target;
use coracle::engine::kernels;
use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

/// The text that build.rs validates: `header` before the file, a plain `store` behind it.
fn linked(source: &str, header: &str, target: Option<Target>) -> String {
    let enable = if header.contains("f16") { "enable f16;\n" } else { "" };
    let out = header.split("alias Out = ").nth(1).and_then(|rest| rest.split(';').next());
    let class = out.filter(|out| *out != "f16").unwrap_or("f32");
    let store = match target {
        None => String::new(),
        Some(Target { buffer, wide: false }) => {
            format!("fn store(value: Value, i: u32, c: u32) {{ {buffer}[i] = Out(value); }}\n")
        }
        Some(Target { buffer, wide: true }) => format!(
            "fn store(value: Value, i: u32, c: u32) {{ {buffer}[i >> 2u][i & 3u] = Out(value); }}\n\
             fn store4(value: vec4<Value>, i: u32, c: u32) {{ {buffer}[i >> 2u] = vec4<Out>(value); }}\n"
        ),
    };
    format!("{enable}alias Value = {class};\n{header}{source}{store}")
}

fn validated(text: &str) -> Result<(naga::Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .validate(&module)
        .map_err(|e| e.emit_to_string(text))?;
    Ok((module, info))
}

/// What a backend says when it cannot take the text.
fn translated(text: &str) -> Result<(), String> {
    let (module, info) = validated(text)?;
    let options = spv::Options { lang_version: (1, 3), ..Default::default() };
    spv::write_vec(&module, &info, &options, None).map_err(|e| format!("SPIR-V: {e}"))?;
    let half = text.starts_with("enable f16;");
    let shader_model = if half { hlsl::ShaderModel::V6_2 } else { hlsl::ShaderModel::V6_0 };
    let options = hlsl::Options { shader_model, fake_missing_bindings: true, ..Default::default() };
    hlsl::Writer::new(&mut String::new(), &options, &hlsl::PipelineOptions::default())
        .write(&module, &info, None)
        .map_err(|e| format!("HLSL: {e}"))?;
    // Metal has no 64-bit floats.
    if text.contains("f64") {
        return Ok(());
    }
    let options = msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
    msl::write_string(&module, &info, &options, &msl::PipelineOptions::default()).map_err(|e| format!("MSL: {e}"))?;
    Ok(())
}

#[test]
fn every_variant_translates_to_every_backend() {
    let mut variants = 0;
    for (shader, headers) in kernels::ALL {
        for header in *headers {
            let text = linked(&shader.source, header, shader.target);
            if let Err(error) = translated(&text) {
                panic!("shaders/{}.wgsl with {:?}: {error}", shader.name, header.replace('\n', " "));
            }
            variants += 1;
        }
    }
    assert!(variants >= kernels::ALL.len(), "{variants} variants of {} shaders", kernels::ALL.len());
}

#[test]
fn every_pointwise_function_translates_to_every_backend() {
    for name in kernels::FUNCTIONS {
        let texts = kernels::function(name).expect("a listed function has a text");
        // Backends write functions that nobody calls too; every kernel with a chain has those of index.wgsl.
        let indices = include_str!("../shaders/lib/index.wgsl");
        let text = format!("{indices}{}@compute @workgroup_size(1) fn main() {{}}\n", texts.concat());
        if let Err(error) = translated(&text) {
            panic!("shaders/lib/pointwise*.wgsl, {name}: {error}");
        }
    }
}
