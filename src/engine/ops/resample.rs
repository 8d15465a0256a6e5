//! Axes of an array resampled on a device, one after the other, or two of planes at once where elements are only repeated.

use super::patches::MIN_ELEMENTS;
use super::resize_taps::Taps;
use super::words::word;
use crate::engine::ir::{Define, Operand, Recorder, Storage, Work, linear_groups};
use crate::engine::kernels::{repeat4, resample, resample_row4, resample4};
use crate::error::Result;
use crate::tensor::{DType, Shape};

/// The most columns that `shaders/repeat4.wgsl` makes of one.
const REPEATS_MAX: usize = 4;

/// An axis and what each of its new elements is made of.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) axis: usize,
    pub(super) taps: Vec<Taps>,
}

impl Pass {
    /// How many times each of `extent` elements stands beside itself, if that is all.
    fn repeats(&self, extent: usize) -> Option<usize> {
        let times = self.taps.len() / extent.max(1);
        let repeated = |(at, row): (usize, &Taps)| row.constant == 0.0 && row.taps == [(at / times, 1.0)];
        (times > 0 && times * extent == self.taps.len() && self.taps.iter().enumerate().all(repeated)).then_some(times)
    }

    /// Pairs of index and weight of the longest row.
    fn pairs(&self) -> usize {
        self.taps.iter().map(|t| t.taps.len()).max().unwrap_or(0)
    }

    /// The rows of the table, one after the other or `beside` each other: constant, then pairs of index and weight.
    fn table(&self, beside: usize) -> Result<Vec<u32>> {
        let pairs = self.pairs();
        let mut words = Vec::with_capacity(self.taps.len() * (1 + 2 * pairs));
        for rows in self.taps.chunks(beside) {
            words.extend(rows.iter().map(|row| row.constant.to_bits()));
            for pair in 0..pairs {
                let of = |row: &Taps| row.taps.get(pair).copied().unwrap_or((0, 0.0));
                for row in rows {
                    words.push(word(of(row).0)?);
                }
                words.extend(rows.iter().map(|row| of(row).1.to_bits()));
            }
        }
        Ok(words)
    }

    /// Resamples `x` into `target`, which `is_last` says to be output 0 of the node.
    fn record(&self, recorder: &mut Recorder<'_>, x: &Operand, target: &Operand, is_last: bool) -> Result<()> {
        let (extent, count) = (x.shape[self.axis], self.taps.len());
        let inner: usize = x.shape[self.axis + 1..].iter().product();
        let (elements, floats) = (target.shape.elements(), x.storage == Storage::F32 && target.storage == Storage::F32);
        let many = floats && elements >= MIN_ELEMENTS;
        let taps = word(self.pairs())?;
        let define = [Define::Scalar("In", x.storage)];
        let (shader, defines, table, params, invocations) = if many && inner.is_multiple_of(4) {
            let params = resample4::Params {
                vectors: word(elements / 4)?,
                extent: word(extent)?,
                count: word(count)?,
                inner_vectors: word(inner / 4)?,
                taps,
            };
            (&resample4::SHADER, &define[..0], self.table(1)?, params.words().to_vec(), elements / 4)
        } else if many && inner == 1 && count.is_multiple_of(4) {
            let params = resample_row4::Params {
                vectors: word(elements / 4)?,
                extent: word(extent)?,
                row_vectors: word(count / 4)?,
                taps,
            };
            (&resample_row4::SHADER, &define[..0], self.table(4)?, params.words().to_vec(), elements / 4)
        } else {
            let params = resample::Params {
                total: word(elements)?,
                extent: word(extent)?,
                count: word(count)?,
                inner: word(inner)?,
                taps,
            };
            (&resample::SHADER, &define[..], self.table(1)?, params.words().to_vec(), elements)
        };
        let table = recorder.table(table);
        let work = Work {
            shader,
            defines,
            buffers: &[x.buffer, table, target.buffer],
            params: &params,
            groups: linear_groups(invocations, 64, recorder.profile.max_workgroups),
        };
        if is_last { recorder.dispatch(&work) } else { recorder.dispatch_plain(&work, Storage::F32) }
    }
}

/// Records all of `passes`, at least one, over input 0 into output 0 of the node.
pub(super) fn record(recorder: &mut Recorder<'_>, passes: &[Pass]) -> Result<()> {
    let (mut x, output) = (recorder.input(0)?.clone(), recorder.output(0).clone());
    if let Some(repeats) = repeats(&x, &output, passes) {
        return record_repeated(recorder, &x, &output, repeats);
    }
    for (i, pass) in passes.iter().enumerate() {
        let is_last = i + 1 == passes.len();
        let target = match is_last {
            true => output.clone(),
            false => {
                let mut shape = x.shape.dims().to_vec();
                shape[pass.axis] = pass.taps.len();
                recorder.scratch(Shape::new(shape), DType::F32, Storage::F32)
            }
        };
        pass.record(recorder, &x, &target, is_last)?;
        x = target;
    }
    Ok(())
}

/// How many rows and columns each element of planes becomes, where that is all and a kernel does it.
fn repeats(x: &Operand, output: &Operand, passes: &[Pass]) -> Option<[usize; 2]> {
    let mut repeats = [1; 2];
    for pass in passes {
        // The axes of planes are the last two.
        let axis = (pass.axis + 2).checked_sub(x.shape.rank())?;
        *repeats.get_mut(axis)? = pass.repeats(x.shape[pass.axis])?;
    }
    let floats = x.storage == Storage::F32 && output.storage == Storage::F32;
    let fours = x.shape.last().is_some_and(|columns| columns.is_multiple_of(4));
    let fits = floats && fours && x.shape.elements() >= MIN_ELEMENTS && repeats[1] <= REPEATS_MAX;
    fits.then_some(repeats)
}

fn record_repeated(
    recorder: &mut Recorder<'_>,
    x: &Operand,
    output: &Operand,
    [rows, columns]: [usize; 2],
) -> Result<()> {
    let vectors = x.shape.elements() / 4;
    let row_vectors = x.shape.last().map_or(0, |columns| columns / 4);
    let params = repeat4::Params { vectors: word(vectors)?, row_vectors: word(row_vectors)?, rows: word(rows)? };
    word(output.shape.elements())?;
    recorder.dispatch(&Work {
        shader: &repeat4::SHADER,
        defines: &[Define::Const("COLUMNS", word(columns)?)],
        buffers: &[x.buffer, output.buffer],
        params: params.words(),
        groups: linear_groups(vectors, 64, recorder.profile.max_workgroups),
    })
}
