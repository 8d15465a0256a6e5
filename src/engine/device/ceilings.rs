//! What an adapter could do at best: arithmetic without memory, memory without arithmetic.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::adapter::Adapter;
use super::gpu::{Gpu, GpuOptions};
use super::layouts::STORAGE_BYTES_MIN;
use super::refusals;
use crate::engine::ir::{Binding, Kernel, Profile};
use crate::error::Result;

/// Independent vec4 accumulators tried: few may not hide the latency of a multiply-add, many may not fit the registers.
const ACCUMULATORS: [u32; 4] = [4, 8, 16, 32];
/// Multiply-adds of vec4s in one invocation.
const STEPS: u32 = 64_000;
/// Workgroups of the arithmetic kernels, of 64 invocations each.
const GROUPS: u32 = 128;
/// Bytes that the copy kernel reads, and writes as many.
const COPY_BYTES: u64 = 64 << 20;
/// Each figure is the best of this many runs.
const RUNS: usize = 3;

/// The best rates measured on an adapter.
#[derive(Clone, Debug, Serialize)]
pub struct Ceilings {
    /// The adapter's name.
    pub device: String,
    /// 32-bit multiply-adds, in 10⁹ operations a second (two a multiply-add).
    pub f32_gflop_per_s: f64,
    /// 16-bit multiply-adds likewise, where the adapter has them.
    pub f16_gflop_per_s: Option<f64>,
    /// 8-bit multiply-adds in packed dot products, likewise.
    pub int8_gop_per_s: f64,
    /// Bytes read and written by a copy, in 10⁹ a second.
    pub copy_gb_per_s: f64,
}

impl fmt::Display for Ceilings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "f32   {:>10.1} GFLOP/s", self.f32_gflop_per_s)?;
        if let Some(rate) = self.f16_gflop_per_s {
            writeln!(f, "f16   {rate:>10.1} GFLOP/s")?;
        }
        writeln!(f, "int8  {:>10.1} GOP/s", self.int8_gop_per_s)?;
        write!(f, "copy  {:>10.2} GB/s", self.copy_gb_per_s)
    }
}

/// Measures an adapter. Takes a few seconds.
///
/// # Errors
/// `UNAVAILABLE` when the driver gives no device, `INTERNAL` when it refuses a kernel.
pub fn measure_ceilings(adapter: &Adapter, profile: &Profile) -> Result<Ceilings> {
    let gpu = Gpu::open(adapter, &GpuOptions::default())?;
    // Large adapters finish the same work too soon to time: they get more of it.
    let groups = if adapter.is_software() { GROUPS } else { GROUPS * 64 };
    let operations = f64::from(groups) * 64.0 * f64::from(STEPS) * 8.0;
    let arithmetic = |kernel: &dyn Fn(u32) -> Kernel| -> Result<f64> {
        let rates =
            ACCUMULATORS.iter().map(|n| Ok(operations / best(&gpu, &kernel(*n), groups, STORAGE_BYTES_MIN)? / 1e9));
        Ok(rates.collect::<Result<Vec<f64>>>()?.into_iter().fold(0.0, f64::max))
    };
    Ok(Ceilings {
        device: adapter.name().to_owned(),
        f32_gflop_per_s: arithmetic(&|n| multiply_add("f32", n))?,
        f16_gflop_per_s: profile.f16.then(|| arithmetic(&|n| multiply_add("f16", n))).transpose()?,
        int8_gop_per_s: arithmetic(&packed_dot)?,
        copy_gb_per_s: {
            let words = COPY_BYTES / 16;
            let groups = u32::try_from(words / 64).unwrap_or(u32::MAX).min(65535);
            let copied = f64::from(groups) * 64.0 * 16.0 * 2.0;
            copied / best(&gpu, &copy(), groups, COPY_BYTES)? / 1e9
        },
    })
}

fn kernel(name: &'static str, source: String, bindings: &[Binding]) -> Kernel {
    Kernel { name, source: source.into(), bindings: bindings.to_vec() }
}

/// Accumulators that depend on the invocation, so that nothing can be computed beforehand.
fn multiply_add(scalar: &str, accumulators: u32) -> Kernel {
    let mut source = String::new();
    if scalar == "f16" {
        source.push_str("enable f16;\n");
    }
    let _ = write!(
        source,
        "@group(0) @binding(0) var<storage, read_write> y: array<f32>;\n@compute @workgroup_size(64)\n\
         fn main(@builtin(global_invocation_id) id: vec3<u32>) {{\n    let seed = {scalar}(f32(id.x & 255u) * 0.0001);\n    \
         let factor = vec4<{scalar}>({scalar}(0.999) + seed);\n"
    );
    for i in 0..accumulators {
        let _ = writeln!(source, "    var a{i} = vec4<{scalar}>(seed + {scalar}({i}));");
    }
    let _ = writeln!(source, "    for (var turn = 0u; turn < {}u; turn++) {{", STEPS / accumulators);
    for i in 0..accumulators {
        let _ = writeln!(source, "        a{i} = fma(a{i}, factor, factor);");
    }
    let sum: Vec<_> = (0..accumulators).map(|i| format!("a{i}")).collect();
    let _ = writeln!(source, "    }}\n    let s = {};", sum.join(" + "));
    source.push_str("    if f32(s.x + s.y + s.z + s.w) == 12345.678 { y[0] = 1.0; }\n}\n");
    kernel("ceiling_multiply_add", source, &[Binding::ReadWrite])
}

/// Eight operations a packed dot product; as many of them as there are vec4 multiply-adds above.
fn packed_dot(accumulators: u32) -> Kernel {
    let mut source = String::from(
        "@group(0) @binding(0) var<storage, read_write> y: array<u32>;\n@compute @workgroup_size(64)\n\
         fn main(@builtin(global_invocation_id) id: vec3<u32>) {\n    var x = id.x | 0x01020304u;\n",
    );
    for i in 0..accumulators {
        let _ = writeln!(source, "    var a{i} = i32(id.x) + {i};");
    }
    let _ = writeln!(
        source,
        "    for (var turn = 0u; turn < {}u; turn++) {{\n        x = x + 0x01010101u;",
        STEPS / accumulators
    );
    for i in 0..accumulators {
        let _ = writeln!(source, "        a{i} += dot4I8Packed(x ^ u32(a{i}), 0x03020107u);");
    }
    let sum: Vec<_> = (0..accumulators).map(|i| format!("a{i}")).collect();
    let _ = writeln!(source, "    }}\n    if {} == 123456789 {{ y[0] = 1u; }}\n}}", sum.join(" + "));
    kernel("ceiling_packed_dot", source, &[Binding::ReadWrite])
}

fn copy() -> Kernel {
    let source = "@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;\n\
                  @group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;\n\
                  @compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3<u32>) {\n    \
                  y[id.x] = x[id.x];\n}\n";
    kernel("ceiling_copy", source.to_owned(), &[Binding::Read, Binding::ReadWrite])
}

/// Seconds of the fastest run of `groups` workgroups, after one that lets the driver compile.
fn best(gpu: &Gpu, kernel: &Kernel, groups: u32, bytes: u64) -> Result<f64> {
    let pipeline = gpu.pipeline(kernel)?;
    let buffers = kernel.bindings.iter().map(|_| {
        let usage = wgpu::BufferUsages::STORAGE;
        gpu.buffer("a ceiling's buffer", bytes, usage).map(Arc::new)
    });
    let buffers = buffers.collect::<Result<Vec<_>>>()?;
    let entries: Vec<_> = buffers
        .iter()
        .enumerate()
        .map(|(i, b)| wgpu::BindGroupEntry { binding: i as u32, resource: b.as_entire_binding() })
        .collect();
    let bind_group = refusals::guarded(kernel.name, || {
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries };
        gpu.device.create_bind_group(&descriptor)
    })?;
    let mut fastest = Duration::MAX;
    for run in 0..=RUNS {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline.raw);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups(groups, 1, 1);
        drop(pass);
        let commands = encoder.finish();
        let start = Instant::now();
        gpu.queue.submit([commands]);
        let polled = gpu.device.poll(wgpu::PollType::Wait { submission_index: None, timeout: None });
        if polled.is_err() || gpu.is_lost() {
            return Err(gpu.loss());
        }
        if run > 0 {
            fastest = fastest.min(start.elapsed());
        }
    }
    Ok(fastest.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::adapter::Mask;
    use super::*;

    #[test]
    fn every_adapter_can_be_measured() {
        for adapter in Adapter::all() {
            let ceilings = measure_ceilings(&adapter, &adapter.profile(&Mask::default())).expect("it computes");
            assert!(ceilings.f32_gflop_per_s > 0.0 && ceilings.copy_gb_per_s > 0.0);
        }
    }
}
