//! What holds for every kernel made as text: it is valid WGSL, binds what is declared, and translates to every backend.

use std::fmt::Debug;

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

use crate::engine::ir::{Binding, Chain, Define, Link, Shader, Storage};

/// The module of `shader` under these defines, its results stored as `out`; `what` stands in messages.
pub(super) fn validated(
    what: &dyn Debug,
    shader: &Shader,
    defines: &[Define],
    out: Storage,
) -> (naga::Module, ModuleInfo) {
    let chain = Chain::identity(out.class());
    let link = Link { defines, class: out.class(), out, chain: &chain, library: &super::function };
    let text = shader.link(&link).expect("no functions are called").source;
    let module =
        naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| panic!("{what:?}: {}", error.emit_to_string(&text)));
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{what:?}: {}", error.emit_to_string(&text)));
    (module, info)
}

/// Panics unless the module binds what `shader` declares.
pub(super) fn binds_what_is_declared(what: &dyn Debug, shader: &Shader, module: &naga::Module) {
    let mut bound: Vec<_> =
        module.global_variables.iter().filter_map(|(_, v)| Some((v.binding?.binding, v.space))).collect();
    bound.sort_by_key(|(binding, _)| *binding);
    let kind = |(_, space): &(u32, naga::AddressSpace)| match space {
        naga::AddressSpace::Uniform => Binding::Uniform,
        naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => Binding::ReadWrite,
        _ => Binding::Read,
    };
    assert_eq!(bound.iter().map(kind).collect::<Vec<_>>(), shader.bindings, "{what:?}");
}

/// Panics unless SPIR-V, HLSL and MSL can be written of the module.
pub(super) fn translates(what: &dyn Debug, made: &(naga::Module, ModuleInfo)) {
    translates_but_for_hlsl(what, made);
    let (module, info) = made;
    let options =
        hlsl::Options { shader_model: hlsl::ShaderModel::V6_2, fake_missing_bindings: true, ..Default::default() };
    hlsl::Writer::new(&mut String::new(), &options, &hlsl::PipelineOptions::default())
        .write(module, info, None)
        .unwrap_or_else(|error| panic!("{what:?}: {error}"));
}

/// Panics unless SPIR-V and MSL can be written of the module.
pub(super) fn translates_but_for_hlsl(what: &dyn Debug, (module, info): &(naga::Module, ModuleInfo)) {
    let options = spv::Options { lang_version: (1, 3), ..Default::default() };
    spv::write_vec(module, info, &options, None).unwrap_or_else(|error| panic!("{what:?}: {error}"));
    let options = msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
    msl::write_string(module, info, &options, &msl::PipelineOptions::default())
        .unwrap_or_else(|error| panic!("{what:?}: {error}"));
}

/// Bytes of workgroup memory that the module declares.
pub(super) fn workgroup_bytes(module: &naga::Module) -> u32 {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).expect("types have sizes");
    let shared = module.global_variables.iter().filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup);
    shared.map(|(_, v)| layouter[v.ty].size).sum()
}
