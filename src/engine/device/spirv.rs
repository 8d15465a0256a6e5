//! Kernels as SPIR-V, for pipelines that are made without wgpu: read, validated and written as wgpu does it.

use std::ffi::CStr;

use wgpu::naga::back::spv::{self, Capability, ZeroInitializeWorkgroupMemoryMode as ZeroInitialize};
use wgpu::naga::front::wgsl;
use wgpu::naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use wgpu::naga::valid::{Capabilities, ValidationFlags, Validator};
use wgpu::naga::{AddressSpace, Module, ResourceBinding, StorageAccess};

use crate::engine::ir::{Binding, Kernel};
use crate::error::{Error, Result};

/// What kernels are called from.
pub(super) const ENTRY_POINT: &CStr = c"main";

/// What a device understands.
#[derive(Debug)]
pub(super) struct Dialect {
    version: (u8, u8),
    capabilities: Capabilities,
    spoken: Vec<Capability>,
    limits: wgpu::Limits,
    checked: bool,
}

impl Dialect {
    /// That of devices with `features` and `limits`, in SPIR-V of this version. `halves`: 16-bit floats can be packed in words.
    /// `checked`: kernels keep bounds checks and loop bounds.
    pub(super) fn new(
        version: (u8, u8),
        features: wgpu::Features,
        limits: &wgpu::Limits,
        halves: bool,
        checked: bool,
    ) -> Self {
        let mut capabilities = Capabilities::empty();
        capabilities.set(Capabilities::SHADER_FLOAT16_IN_FLOAT32, halves);
        let mut spoken = vec![Capability::Shader];
        for (feature, capability, words) in [
            (wgpu::Features::SHADER_F64, Capabilities::FLOAT64, &[Capability::Float64][..]),
            (wgpu::Features::SHADER_F16, Capabilities::SHADER_FLOAT16, &[Capability::Float16]),
            (wgpu::Features::SHADER_INT64, Capabilities::SHADER_INT64, &[Capability::Int64]),
            (
                wgpu::Features::SUBGROUP,
                Capabilities::SUBGROUP,
                &[
                    Capability::GroupNonUniform,
                    Capability::GroupNonUniformVote,
                    Capability::GroupNonUniformArithmetic,
                    Capability::GroupNonUniformBallot,
                    Capability::GroupNonUniformShuffle,
                    Capability::GroupNonUniformShuffleRelative,
                    Capability::GroupNonUniformQuad,
                ],
            ),
            (
                wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX,
                Capabilities::COOPERATIVE_MATRIX,
                &[Capability::CooperativeMatrixKHR, Capability::VulkanMemoryModel],
            ),
        ] {
            if features.contains(feature) {
                capabilities |= capability;
                spoken.extend_from_slice(words);
            }
        }
        Self { version, capabilities, spoken, limits: limits.clone(), checked }
    }

    /// The words of `kernel`, whose bindings are those of descriptor set 0.
    ///
    /// # Errors
    /// `INTERNAL` naming what naga finds wrong with it, a limit that it is over, or a binding that is not as it says.
    pub(super) fn translate(&self, kernel: &Kernel) -> Result<Vec<u32>> {
        let mut options = wgsl::Options::new();
        options.capabilities = self.capabilities;
        let module = wgsl::Frontend::new_with_options(options).parse(&kernel.source);
        let module = module.map_err(|e| Error::internal(e.emit_to_string(&kernel.source)))?;
        let info = Validator::new(ValidationFlags::all(), self.capabilities).validate(&module);
        let info = info.map_err(|e| Error::internal(e.emit_to_string(&kernel.source)))?;
        self.check_limits(&module)?;
        check_bindings(&module, &kernel.bindings)?;
        spv::write_vec(&module, &info, &self.options(kernel.bindings.len()), None)
            .map_err(|e| Error::internal(format!("SPIR-V: {e}")))
    }

    fn options(&self, bindings: usize) -> spv::Options<'static> {
        let policy = if self.checked { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
        let place = |index: u32| {
            let info = spv::BindingInfo { descriptor_set: 0, binding: index, binding_array_size: None };
            (ResourceBinding { group: 0, binding: index }, info)
        };
        spv::Options {
            lang_version: self.version,
            flags: spv::WriterFlags::empty(),
            fake_missing_bindings: false,
            binding_map: (0..bindings as u32).map(place).collect(),
            capabilities: Some(self.spoken.iter().copied().collect()),
            bounds_check_policies: BoundsCheckPolicies {
                index: policy,
                buffer: policy,
                image_load: policy,
                binding_array: BoundsCheckPolicy::Unchecked,
            },
            zero_initialize_workgroup_memory: ZeroInitialize::None,
            force_loop_bounding: self.checked,
            use_storage_input_output_16: false,
            debug_info: None,
            // Operators lean on what integers give where they are divided by zero.
            emit_int_div_checks: true,
            ..spv::Options::default()
        }
    }

    fn check_limits(&self, module: &Module) -> Result<()> {
        let entry = module.entry_points.iter().find(|entry| entry.name.as_bytes() == ENTRY_POINT.to_bytes());
        let [x, y, z] = entry.ok_or_else(|| Error::internal("no entry point main"))?.workgroup_size;
        let limits = &self.limits;
        let most = [
            limits.max_compute_workgroup_size_x,
            limits.max_compute_workgroup_size_y,
            limits.max_compute_workgroup_size_z,
        ];
        let invocations = u64::from(x) * u64::from(y) * u64::from(z);
        if [x, y, z].iter().zip(most).any(|(size, most)| *size > most)
            || invocations > u64::from(limits.max_compute_invocations_per_workgroup)
        {
            return Err(Error::internal(format!("a workgroup of {x}×{y}×{z} is over the adapter's limits")));
        }
        let shared = module.global_variables.iter().filter(|(_, global)| global.space == AddressSpace::WorkGroup);
        let bytes: u64 = shared.map(|(_, g)| u64::from(module.types[g.ty].inner.size(module.to_ctx()))).sum();
        if bytes > u64::from(limits.max_compute_workgroup_storage_size) {
            return Err(Error::internal(format!("{bytes} bytes of workgroup memory are over the adapter's limit")));
        }
        let buffers = module.global_variables.iter().filter(|(_, g)| matches!(g.space, AddressSpace::Storage { .. }));
        if buffers.count() > limits.max_storage_buffers_per_shader_stage as usize {
            return Err(Error::internal("more storage buffers than the adapter's limit"));
        }
        Ok(())
    }
}

/// Refuses a module that binds something in another way than the kernel says.
fn check_bindings(module: &Module, bindings: &[Binding]) -> Result<()> {
    for (_, global) in module.global_variables.iter() {
        let Some(place) = global.binding else { continue };
        let name = global.name.as_deref().unwrap_or("a binding");
        let said = (place.group == 0).then(|| bindings.get(place.binding as usize)).flatten();
        let right = match (global.space, said) {
            (AddressSpace::Uniform, Some(Binding::Uniform)) => true,
            (AddressSpace::Storage { access }, Some(Binding::Read)) => !access.contains(StorageAccess::STORE),
            (AddressSpace::Storage { access }, Some(Binding::ReadWrite)) => access.contains(StorageAccess::STORE),
            _ => false,
        };
        if !right {
            return Err(Error::internal(format!(
                "{name} at binding {} of group {} is not what the kernel says",
                place.binding, place.group
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(source: &str, bindings: &[Binding]) -> Kernel {
        Kernel { name: "test", source: source.into(), bindings: bindings.to_vec() }
    }

    fn dialect() -> Dialect {
        Dialect::new((1, 3), wgpu::Features::empty(), &wgpu::Limits::default(), false, false)
    }

    const DOUBLE: &str = "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) { x[id.x] *= 2.0; }";

    #[test]
    fn kernels_become_words() {
        let words = dialect().translate(&kernel(DOUBLE, &[Binding::ReadWrite])).expect("a sound kernel");
        assert_eq!(words.first(), Some(&0x0723_0203), "SPIR-V's magic number");
    }

    #[test]
    fn bounds_are_checked_where_that_is_asked_for() {
        let checked = Dialect { checked: true, ..dialect() };
        let words = |dialect: &Dialect| dialect.translate(&kernel(DOUBLE, &[Binding::ReadWrite])).expect("sound").len();
        assert!(words(&checked) > words(&dialect()));
    }

    #[test]
    fn what_is_wrong_with_a_kernel_is_told() {
        let refused = |source: &str, bindings: &[Binding]| {
            dialect().translate(&kernel(source, bindings)).expect_err("refused").message().to_owned()
        };
        assert!(refused("fn main( {", &[]).contains("expected"));
        assert!(refused(&DOUBLE.replace("f32", "f64"), &[Binding::ReadWrite]).contains("FLOAT64"));
        assert!(refused(&DOUBLE.replace("64)", "4096)"), &[Binding::ReadWrite]).contains("4096×1×1"));
        assert!(refused(&DOUBLE.replace("main", "other"), &[Binding::ReadWrite]).contains("no entry point"));
        for wrong in [&[Binding::Read][..], &[Binding::Uniform], &[]] {
            assert!(refused(DOUBLE, wrong).contains("binding 0 of group 0"), "{wrong:?}");
        }
        let large = format!("var<workgroup> w: array<f32, 5000>; {}", DOUBLE.replace("x[id.x] *= 2.0", "w[0] = x[0]"));
        assert!(refused(&large, &[Binding::ReadWrite]).contains("20000 bytes of workgroup memory"));
    }
}
