//! Kernels in ways that no operator uses yet, on hand-made programs.

use std::sync::Arc;

use coracle::engine::device::Lane;
use coracle::engine::ir::{
    Buffer, BufferId, Chain, Class, Define, Dispatch, Link, OutputPlace, Port, Program, Segment, Slot, Storage,
    linear_groups,
};
use coracle::engine::kernels::{self, attention_blocks};
use coracle::error::Result;
use coracle::tensor::{DType, Shape, Tensor};

use super::case::random;
use super::check::{compare, execute};

/// One problem of `attention_blocks`; tensors are [batch, row, head, column], so that heads are strided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    pub(crate) name: &'static str,
    batch: usize,
    heads: usize,
    key_heads: usize,
    queries: usize,
    keys: usize,
    depth: usize,
    width: usize,
    /// 0 none, 1 added, 2 hiding; of [query, key].
    mask: u32,
    causal: Option<i32>,
}

const PLAIN: Attention = Attention {
    name: "plain",
    batch: 1,
    heads: 2,
    key_heads: 2,
    queries: 37,
    keys: 41,
    depth: 20,
    width: 32,
    mask: 0,
    causal: None,
};

/// Every one.
pub(crate) const ATTENTIONS: [Attention; 6] = [
    PLAIN,
    Attention { name: "added_mask", batch: 2, mask: 1, width: 70, ..PLAIN },
    Attention { name: "hiding_mask", mask: 2, keys: 96, depth: 64, width: 64, ..PLAIN },
    Attention { name: "causal_shared_heads", heads: 4, causal: Some(4), width: 17, ..PLAIN },
    Attention { name: "causal_that_sees_nothing_at_first", causal: Some(-3), keys: 33, ..PLAIN },
    Attention { name: "wide_heads", queries: 1, keys: 130, depth: 256, width: 200, ..PLAIN },
];

impl Attention {
    fn inputs(&self) -> Vec<Tensor> {
        let Self { batch, heads, key_heads, queries, keys, depth, width, .. } = *self;
        let mask = match self.mask {
            2 => random(DType::I32, &[queries, keys], 0.0, 1.999, 4),
            _ => random(DType::F32, &[queries, keys], -2.0, 2.0, 4),
        };
        vec![
            random(DType::F32, &[batch, queries, heads, depth], -2.0, 2.0, 1),
            random(DType::F32, &[batch, keys, key_heads, depth], -2.0, 2.0, 2),
            random(DType::F32, &[batch, keys, key_heads, width], -2.0, 2.0, 3),
            mask,
        ]
    }

    fn scale(&self) -> f32 {
        1.0 / (self.depth as f32).sqrt()
    }

    /// By the definition.
    fn expected(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let Self { batch, heads, key_heads, queries, keys, depth, width, .. } = *self;
        let [q, k, v, mask] = [0, 1, 2, 3].map(|i| inputs[i].to_f64s().expect("real"));
        let mut y = Vec::new();
        for (entry, query, head) in
            (0..batch * queries * heads).map(|i| (i / (queries * heads), i / heads % queries, i % heads))
        {
            let shared = head / (heads / key_heads);
            let row = |values: &[f64], rows: usize, heads: usize, extent: usize, row: usize, head: usize| {
                values[((entry * rows + row) * heads + head) * extent..][..extent].to_vec()
            };
            let own = row(&q, queries, heads, depth, query, head);
            let scores: Vec<f64> = (0..keys)
                .map(|key| {
                    let other = row(&k, keys, key_heads, depth, key, shared);
                    let score: f64 = own.iter().zip(&other).map(|(a, b)| a * b).sum::<f64>() * f64::from(self.scale());
                    let masked = mask[query * keys + key];
                    let hidden = self.causal.is_some_and(|shift| key as i64 > query as i64 + i64::from(shift))
                        || (self.mask == 2 && masked == 0.0);
                    if hidden { f64::NEG_INFINITY } else { score + if self.mask == 1 { masked } else { 0.0 } }
                })
                .collect();
            let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> =
                scores.iter().map(|s| if *s == f64::NEG_INFINITY { 0.0 } else { (s - greatest).exp() }).collect();
            let total: f64 = weights.iter().sum();
            for column in 0..width {
                let sum: f64 =
                    (0..keys).map(|key| weights[key] * row(&v, keys, key_heads, width, key, shared)[column]).sum();
                y.push(if total > 0.0 { sum / total } else { 0.0 });
            }
        }
        Tensor::from_f64s(DType::F32, [batch, queries, heads, width], &y)
    }

    fn program(&self, inputs: &[Tensor]) -> Result<Program> {
        let Self { batch, heads, key_heads, queries, keys, depth, width, .. } = *self;
        let word = |v: usize| v as u32;
        let step = |rows: usize, heads: usize, extent: usize| {
            [word(rows * heads * extent), word(extent), word(heads * extent), 0]
        };
        let params = attention_blocks::Params {
            batch: word(batch),
            heads: word(heads),
            queries: word(queries),
            keys: word(keys),
            depth: word(depth),
            width: word(width),
            sharing: word(heads / key_heads),
            shift: self.causal.unwrap_or(0),
            q_step: step(queries, heads, depth),
            k_step: step(keys, key_heads, depth),
            v_step: step(keys, key_heads, width),
            y_step: step(queries, heads, width),
            mask_step: [0, 0, word(keys), 1],
            scale: self.scale(),
            ..Default::default()
        };
        let mask = if self.mask == 2 { Storage::U32 } else { Storage::F32 };
        let vectors = [1, 2, 3, 4, 8].into_iter().find(|v| 32 * v >= word(width)).expect("heads of up to 256");
        let chain = Chain::identity(Class::F32);
        let kernel = attention_blocks::SHADER.link(&Link {
            defines: &[
                Define::Scalar("In", Storage::F32),
                Define::Scalar("Mask", mask),
                Define::Const("MASK", self.mask),
                Define::Const("CAUSAL", u32::from(self.causal.is_some())),
                Define::Const("VECTORS", vectors),
            ],
            class: Class::F32,
            out: Storage::F32,
            chain: &chain,
            library: &kernels::function,
        })?;
        let shape = Shape::from([batch, queries, heads, width]);
        let shapes = inputs.iter().map(Tensor::shape).chain([&shape]);
        let buffers =
            shapes.enumerate().map(|(pool, shape)| Buffer::Scratch { bytes: 4 * shape.elements() as u64, pool });
        let port = |i: usize, tensor: &Tensor| Port {
            slot: Slot(i),
            buffer: BufferId(i),
            dtype: tensor.dtype(),
            storage: if i == 3 { mask } else { Storage::F32 },
            shape: tensor.shape().clone(),
        };
        let download =
            Port { slot: Slot(4), buffer: BufferId(4), dtype: DType::F32, storage: Storage::F32, shape: shape.clone() };
        let dispatch = Dispatch {
            label: "attention".into(),
            kernel,
            buffers: (0..5).map(BufferId).collect(),
            uniforms: vec![params.words().to_vec()],
            groups: linear_groups(queries.div_ceil(32) * heads * batch, 1, 65_535),
        };
        let segment = Segment {
            uploads: inputs.iter().enumerate().map(|(i, tensor)| port(i, tensor)).collect(),
            dispatches: vec![dispatch],
            downloads: vec![download],
            ..Segment::default()
        };
        Ok(Program {
            buffers: buffers.collect(),
            segments: vec![segment],
            slots: 5,
            inputs: (0..4).map(Slot).collect(),
            outputs: vec![OutputPlace::Slot(Slot(4))],
            rest: None,
            known: Vec::new(),
            nodes: 1,
            flops: 0.0,
        })
    }

    /// Runs it on the device and by the definition.
    pub(crate) fn check(&self, lane: &Lane) -> Result<(), String> {
        let run = || -> Result<()> {
            let mut inputs = self.inputs();
            let expected = self.expected(&inputs)?;
            if self.mask == 2 {
                let values = inputs[3].to_f64s()?;
                inputs[3] = Tensor::from_f64s(DType::U32, inputs[3].shape().clone(), &values)?;
            }
            let program = Arc::new(self.program(&inputs)?);
            compare(&execute(lane, &program, &inputs)?[0], &expected, 2e-5)
        };
        run().map_err(|e| e.to_string())
    }
}
