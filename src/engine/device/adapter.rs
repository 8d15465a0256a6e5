//! Adapters: what there is, in the order of preference, and what each can do.

use std::fmt;

use crate::engine::ir::{Family, Fragments, Profile};
use crate::error::{Error, Result};

/// A vendor's number.
const NVIDIA: u32 = 0x10de;

/// One adapter of the machine.
#[derive(Clone)]
pub struct Adapter {
    pub(super) raw: wgpu::Adapter,
    info: wgpu::AdapterInfo,
    index: usize,
}

/// Features to do without, and kernels to use whatever the adapter's kind.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    subgroups: bool,
    f16: bool,
    int64: bool,
    f64: bool,
    /// As asked for; else where they are known to work.
    fragments: Option<bool>,
    family: Option<Family>,
}

impl Mask {
    /// `without` holds any of `subgroups`, `f16`, `int64`, `f64` and `matrices`, `family` is `software` or `gpu`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for other words.
    pub fn new(without: &[String], family: Option<&str>) -> Result<Self> {
        let mut mask = Self::default();
        for feature in without {
            match feature.as_str() {
                "subgroups" => mask.subgroups = true,
                "f16" => mask.f16 = true,
                "int64" => mask.int64 = true,
                "f64" => mask.f64 = true,
                "matrices" => mask.fragments = Some(false),
                other => {
                    return Err(Error::invalid_argument(format!(
                        "cannot do without {other:?}: say subgroups, f16, int64, f64 or matrices"
                    )));
                }
            }
        }
        mask.family = match family {
            None | Some("auto") => None,
            Some("software") => Some(Family::Software),
            Some("gpu") => Some(Family::Gpu),
            Some(other) => {
                return Err(Error::invalid_argument(format!("kernel family {other:?}: say software or gpu")));
            }
        };
        Ok(mask)
    }

    /// The same with what is not used unless asked for: `matrices`, products that a subgroup computes as one.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for other words.
    pub fn with(mut self, features: &[String]) -> Result<Self> {
        for feature in features {
            match feature.as_str() {
                "matrices" => self.fragments = Some(true),
                other => return Err(Error::invalid_argument(format!("cannot use {other:?}: say matrices"))),
            }
        }
        Ok(self)
    }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.info.name, self.info.backend)
    }
}

fn rank(kind: wgpu::DeviceType) -> u8 {
    match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

impl Adapter {
    /// Every adapter, the best first: discrete, integrated, virtual, software.
    pub fn all() -> Vec<Self> {
        let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = backends;
        if !cfg!(debug_assertions) {
            descriptor.flags = wgpu::InstanceFlags::DISCARD_HAL_LABELS;
        }
        let instance = wgpu::Instance::new(descriptor);
        let mut found: Vec<_> = pollster::block_on(instance.enumerate_adapters(backends))
            .into_iter()
            .map(|raw| (raw.get_info(), raw))
            .collect();
        found.sort_by_key(|(info, _)| rank(info.device_type));
        found.into_iter().enumerate().map(|(index, (info, raw))| Self { raw, info, index }).collect()
    }

    /// The adapter that `choice` names: `auto`, `software`, an index, or part of a name (any case).
    ///
    /// # Errors
    /// `NOT_FOUND` listing what there is.
    pub fn pick(choice: &str) -> Result<Self> {
        Self::named(&Self::all(), choice)
    }

    /// The adapters that `choice` names: one as [`Adapter::pick`] takes it, several of those after commas, or `all`, which are those
    /// that are reached as the best one is. One that is named twice is there twice.
    ///
    /// # Errors
    /// `NOT_FOUND` for what is none, listing what there is.
    pub fn choose(choice: &str) -> Result<Vec<Self>> {
        let adapters = Self::all();
        if let (true, Some(best)) = (choice.eq_ignore_ascii_case("all"), adapters.first()) {
            // One that two backends reach would do the work of two.
            return Ok(adapters.iter().filter(|a| a.info.backend == best.info.backend).cloned().collect());
        }
        // Names may have commas in them.
        match Self::named(&adapters, choice) {
            Err(_) if choice.contains(',') => choice.split(',').map(|one| Self::named(&adapters, one.trim())).collect(),
            one => Ok(vec![one?]),
        }
    }

    fn named(adapters: &[Self], choice: &str) -> Result<Self> {
        let wanted = choice.to_lowercase();
        let found = adapters.iter().find(|a| match wanted.as_str() {
            "auto" => true,
            "" => false,
            "software" => a.is_software(),
            other => match other.parse::<usize>() {
                Ok(index) => a.index == index,
                Err(_) => a.info.name.to_lowercase().contains(other),
            },
        });
        found.cloned().ok_or_else(|| {
            let names: Vec<_> = adapters.iter().map(|a| format!("{} {:?}", a.index, a.info.name)).collect();
            Error::not_found(if names.is_empty() {
                "no Vulkan, Metal or DX12 adapter was found: install a GPU driver, or a software one \
                 (Debian and Ubuntu: mesa-vulkan-drivers libvulkan1)"
                    .to_owned()
            } else {
                format!("no adapter is {choice:?}; there are {}", names.join(", "))
            })
        })
    }

    /// A device of it.
    pub(super) fn open(&self, descriptor: &wgpu::DeviceDescriptor<'_>) -> Result<(wgpu::Device, wgpu::Queue)> {
        pollster::block_on(self.raw.request_device(descriptor))
            .map_err(|e| Error::unavailable(e.to_string()).with_source(e))
    }

    /// The adapter's name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Its position in the order of preference.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Everything that the driver says about it.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    /// `vulkan/llvmpipe…`, for test names and logs.
    pub fn label(&self) -> String {
        let name = self.info.name.split([' ', '(']).next().unwrap_or_default().to_lowercase();
        format!("{:?}/{name}", self.info.backend).to_lowercase()
    }

    /// Name and driver: what holds for one adapter holds for all that say the same of themselves.
    pub fn identity(&self) -> String {
        let info = &self.info;
        format!("{} | {} {} | {:?}", info.name, info.driver, info.driver_info, info.backend)
    }

    /// Whether a CPU does the work.
    pub fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    /// Whether batches are recorded on it unasked: only where that was seen to work, which is no GPU's driver yet.
    pub fn records(&self) -> bool {
        cfg!(not(target_os = "macos")) && self.info.backend == wgpu::Backend::Vulkan && self.is_software()
    }

    /// What a subgroup multiplies as one, the largest where there are several.
    pub fn fragments(&self) -> Option<Fragments> {
        let wanted =
            wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
        if !self.raw.features().contains(wanted) {
            return None;
        }
        let (least, most) = (self.info.subgroup_min_size, self.info.subgroup_max_size);
        let lanes = match self.info.backend {
            // Metal does not say; all Apple GPUs have 32.
            wgpu::Backend::Metal => 32,
            _ => Some(least).filter(|_| least == most)?,
        };
        let half = |p: &&wgpu::CooperativeMatrixProperties| {
            p.m_size == p.n_size
                && p.m_size == p.k_size
                && p.ab_type == wgpu::CooperativeScalarType::F16
                && p.cr_type == wgpu::CooperativeScalarType::F32
        };
        let found = self.raw.cooperative_matrix_properties();
        let size = found.iter().filter(half).map(|p| p.m_size).filter(|size| [8, 16].contains(size)).max()?;
        // Metal reads matrices through pointers to single numbers.
        Some(Fragments { size, lanes, wide: self.info.backend == wgpu::Backend::Vulkan })
    }

    /// Whether fragments have been seen to work with drivers like this one.
    fn trusts_fragments(&self) -> bool {
        self.info.backend == wgpu::Backend::Vulkan && self.info.vendor == NVIDIA
    }

    /// What kernels may use here.
    pub fn profile(&self, mask: &Mask) -> Profile {
        let (features, limits) = (self.raw.features(), self.raw.limits());
        let (least, most) = (self.info.subgroup_min_size, self.info.subgroup_max_size);
        let subgroups = features.contains(wgpu::Features::SUBGROUP) && !mask.subgroups && least == most;
        let family = if self.is_software() { Family::Software } else { Family::Gpu };
        Profile {
            family: mask.family.unwrap_or(family),
            f16: features.contains(wgpu::Features::SHADER_F16) && !mask.f16,
            int64: features.contains(wgpu::Features::SHADER_INT64) && !mask.int64,
            f64: features.contains(wgpu::Features::SHADER_F64) && !mask.f64,
            subgroup: subgroups.then_some(least),
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            max_invocations: limits.max_compute_invocations_per_workgroup,
            half_precision: false,
            unrolls: !self.is_software(),
            fragments: self
                .fragments()
                .filter(|_| mask.fragments.unwrap_or_else(|| self.trusts_fragments()) && !mask.f16 && !mask.subgroups),
            max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        }
    }
}
