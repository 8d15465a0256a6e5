//! A product in terms of rows of vectors of four.

use super::product::Product;
use super::span_axis::Axis;
use super::span_stores::Stores;
use super::words::word;
use crate::engine::ir::{BufferId, Family, Profile, Recorder, Storage};
use crate::error::Result;

/// Multiply-adds from which a kernel of this kind repays the time that it takes to compile.
const MIN_WORK: u64 = 262_144;
/// The same for so few rows that the kernel is short.
const MIN_VECTOR_WORK: u64 = 16_384;
/// See [`MIN_VECTOR_WORK`].
const VECTOR_ROWS: usize = 4;
/// Columns below which most lanes would idle.
const MIN_COLUMNS: u32 = 16;
/// Multiply-adds of vectors in the innermost loop: longer ones leave a CPU's instruction cache.
pub(super) const MAX_STATEMENTS: u32 = 224;
/// Vectors of a span, which stay in registers.
pub(super) const MAX_SPAN: u32 = 8;
/// Windows of so many taps along x are taken in parts: of few taps, which many rows share.
const LONG_TAPS: u32 = 15;
const FEW_TAPS: u32 = 4;
/// Rows that leave room for many taps, of which as many are taken at a time if not all can be.
const FEW_ROWS: u32 = 8;
const MANY_TAPS: u32 = 12;

/// A side as the kernel reads it: the buffer, where entries start in it, and strides, all in vectors of four.
pub(super) struct Side {
    pub(super) buffer: BufferId,
    pub(super) starts: Vec<u32>,
}

/// A product in terms of rows of vectors.
pub(super) struct Plan<'a> {
    pub(super) product: &'a Product,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) z: Axis,
    /// Taps along x that are taken at a time, the others as if they were in other slices.
    pub(super) taken: u32,
    pub(super) images: u32,
    pub(super) stores: Stores,
    /// Whether the right side is a constant, which is laid out when it is uploaded.
    pub(super) constant: bool,
}

/// Elements between neighbours of an input, and before its first one.
pub(super) struct InputStrides {
    pub(super) first: u32,
    pub(super) image: u32,
    pub(super) channel: u32,
    pub(super) slice: u32,
    pub(super) row: u32,
}

/// Whether so much work over so many rows and columns goes to these kernels, if all is floats.
pub(super) fn suits(work: u64, [rows, columns]: [usize; 2], profile: &Profile) -> bool {
    let software = profile.family == Family::Software && profile.subgroup.is_some();
    let least = if rows <= VECTOR_ROWS { MIN_VECTOR_WORK } else { MIN_WORK };
    software && work >= least && columns >= MIN_COLUMNS as usize
}

impl<'a> Plan<'a> {
    pub(super) fn new(product: &'a Product, recorder: &Recorder<'_>) -> Option<Self> {
        let p = &product.params;
        let floats = [product.a.storage, product.b.storage, recorder.output(0).storage];
        if floats != [Storage::F32; 3]
            || !suits(product.work(), [p.rows as usize, p.columns as usize], recorder.profile)
        {
            return None;
        }
        let [x, y, z] = [0, 1, 2].map(|axis| Axis::new(product, axis));
        if [x, y, z].iter().any(|a| a.taps == 0 || a.output == 0) {
            return None;
        }
        let images = p.columns / p.output[3];
        let constant = recorder.is_constant(product.b.buffer);
        let taken = if z.is_plain() && z.output == 1 { taken(&x, p.rows) } else { x.taps };
        let plan = |stores| Self { product, x, y, z, taken, images, stores, constant }.flattened();
        let (own, in_room) = (plan(Stores::own(product)), Stores::in_room(product, recorder).map(plan));
        // What is read where it lies, planes as rows, may have to be laid out anew to be stored row by row.
        let pays = |plan: &Self| plan.reads_directly() || !own.reads_directly();
        Some(in_room.filter(pays).unwrap_or(own))
    }

    /// The same with whole images as rows, where windows are of one element and both sides lie so.
    fn flattened(mut self) -> Self {
        let (product, stores, p) = (self.product, &self.stores, &self.product.params);
        let read_flat = product.b.planes.is_none_or(|planes| planes.row == p.input[0] as usize);
        let stored_flat = stores.line == p.output[0] * stores.column && stores.slice == p.output[1] * stores.line;
        if read_flat && stored_flat && !product.padded && [self.x, self.y, self.z].iter().all(Axis::is_plain) {
            let whole = p.output[3];
            self.x = Axis { input: whole, output: whole, ..self.x };
            (self.y, self.z) = (Axis { input: 1, output: 1, ..self.y }, Axis { input: 1, output: 1, ..self.z });
        }
        self
    }

    /// Whether windows along x are taken in parts.
    pub(super) fn folds(&self) -> bool {
        self.taken < self.x.taps
    }

    /// Taps of the last part, where it has fewer.
    pub(super) fn tail(&self) -> Option<u32> {
        Some(self.x.taps % self.taken).filter(|tail| *tail > 0)
    }

    /// Slices that windows span, parts of them counted as such.
    pub(super) fn slices(&self) -> u32 {
        if self.folds() { self.x.taps.div_ceil(self.taken) } else { self.z.taps }
    }

    /// Elements of x between neighbours.
    pub(super) fn input_strides(&self) -> Result<InputStrides> {
        let p = &self.product.params;
        if let Some(planes) = self.product.b.planes {
            let [first, image, channel, row] = [planes.first, planes.image, planes.plane, planes.row].map(word);
            return Ok(InputStrides { first: first?, image: image?, channel: channel?, slice: 0, row: row? });
        }
        let [row, slice] = [p.input[0], p.input[0] * p.input[1]];
        Ok(InputStrides { first: 0, image: p.b_image, channel: p.b_channel, slice, row })
    }

    /// Elements of the first vector of a span before the first one that is read.
    pub(super) fn lead(&self) -> u32 {
        if self.product.b.planes.is_some() && self.reads_directly() { (4 - self.x.pad % 4) % 4 } else { 0 }
    }

    /// Whether spans can be read where the input lies.
    pub(super) fn reads_directly(&self) -> bool {
        let p = &self.product.params;
        let one_row = self.y.output * self.y.taps * self.z.output * self.z.taps == 1;
        if let Some(planes) = self.product.b.planes {
            let reach = self.x.reach().max(self.y.reach()) as usize;
            return reach <= planes.border
                && self.z.is_plain()
                && planes.plane.is_multiple_of(4)
                && (one_row || planes.row.is_multiple_of(4))
                && (self.x.taps > 1 || self.x.stride == 1 || !self.constant);
        }
        let dense = self.x.taps > 1 || self.x.stride == 1 || !self.constant;
        !self.product.padded
            && dense
            && [self.x, self.y, self.z].iter().all(|a| a.pad == 0)
            && (one_row || self.x.input.is_multiple_of(4))
            && [p.b_channel, p.b_image].iter().all(|s| s.is_multiple_of(4))
            && self.product.starts.iter().all(|s| s[1].is_multiple_of(4))
    }
}

/// How many taps of windows along `x` a kernel for `rows` rows takes at a time: whole vectors, or all of them.
fn taken(x: &Axis, rows: u32) -> u32 {
    let fits = |taps: u32| {
        let span = (3 * x.stride).saturating_add((taps - 1).saturating_mul(x.dilation)) / 4 + 1;
        rows.min(FEW_ROWS).saturating_mul(taps) <= MAX_STATEMENTS && span <= MAX_SPAN
    };
    if x.taps < LONG_TAPS || (rows <= FEW_ROWS && fits(x.taps)) {
        x.taps
    } else if rows <= FEW_ROWS && fits(MANY_TAPS) {
        MANY_TAPS
    } else {
        FEW_TAPS
    }
}

/// Distinct values in the order in which they come, and the place of each given one among them.
pub(super) fn distinct(values: impl Iterator<Item = u32>) -> (Vec<u32>, Vec<u32>) {
    let mut places = std::collections::HashMap::new();
    let mut distinct = Vec::new();
    let place = |value: u32| {
        *places.entry(value).or_insert_with(|| {
            distinct.push(value);
            (distinct.len() - 1) as u32
        })
    };
    let found = values.map(place).collect();
    (distinct, found)
}
