//! How many lanes to open, where that is left to us: as many as add to what the adapter does.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::compile::compile;
use super::device::{Adapter, Executable, Lane};
use super::ir::{Attributes, Choices, Given, Profile, Program};
use super::lane_file::{self, Rates};
use super::ops::{OpSpec, build};
use super::self_test::{one_node, pattern};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Lanes that can be asked for.
const ASKED_MAX: usize = 64;
/// Lanes that are tried on an adapter with a processor of its own.
const TRIED_MAX: usize = 4;
/// Lanes that are tried however long that takes: where kernels were never compiled before, the first takes seconds.
const TRIED_MIN: usize = 2;
/// No further number is tried after so long. What is begun is brought to its end.
const TIME_MAX: Duration = Duration::from_secs(1);
/// How long each kind of work is measured.
const WINDOW: Duration = Duration::from_millis(80);
/// Runs in flight on each lane meanwhile.
const CALLERS: usize = 2;
/// Another lane must add this much on the whole, or it is not worth its memory.
const GAIN_MIN: f64 = 1.1;
/// What it may cost one kind of work.
const LOSS_MAX: f64 = 0.95;
/// Rows, terms and columns of a product that takes little, and of one that fills the adapter for a while.
const PRODUCTS: [[usize; 3]; 2] = [[1, 64, 64], [128, 512, 512]];

/// How many lanes to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneCount {
    /// So many, at least 1.
    Exactly(usize),
    /// As many as are found to help. A model that does not fit on all of them is put on fewer.
    Auto,
}

impl FromStr for LaneCount {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.parse().ok().filter(|count| (1..=ASKED_MAX).contains(count)).map(Self::Exactly);
        number.or((text == "auto").then_some(Self::Auto)).ok_or_else(|| {
            Error::invalid_argument(format!("lanes is {text:?}: say auto, or a number from 1 to {ASKED_MAX}"))
        })
    }
}

/// Opens as many lanes by `open` as help on `adapter`, at most [`tried_max`] of them. What `folder` remembers is not
/// measured again.
///
/// # Errors
/// Those of opening a lane, of the compiler and of the runs.
pub(super) fn open_lanes(
    adapter: &Adapter,
    profile: &Profile,
    folder: Option<&Path>,
    open: impl Fn(usize) -> Result<Arc<Lane>>,
) -> Result<Vec<Arc<Lane>>> {
    let (file, key) = (folder.map(|folder| folder.join("lanes.json")), key(adapter));
    if let Some(rates) = file.as_deref().and_then(|file| lane_file::read(file, &key)) {
        let lanes = worth(&rates);
        tracing::info!(lanes, ?rates, "as many lanes as were found to help on this adapter before");
        return (0..lanes).map(open).collect();
    }
    let start = Instant::now();
    let programs = PRODUCTS.iter().map(|product| Work::new(profile, product)).collect::<Result<Vec<_>>>()?;
    let (mut lanes, mut rates) = (Vec::new(), Vec::new());
    let most = tried_max(adapter);
    while lanes.len() < most && worth(&rates) == rates.len() && (lanes.len() < TRIED_MIN || start.elapsed() < TIME_MAX)
    {
        lanes.push(open(lanes.len())?);
        let measure = |work: &Work| work.rate(&lanes);
        let [small, large] = [measure(&programs[0])?, measure(&programs[1])?];
        rates.push(Rates { small, large });
    }
    // One more might have helped, too: the next start, whose kernels are compiled, shall see.
    let is_cut_short = lanes.len() < most && worth(&rates) == rates.len();
    lanes.truncate(worth(&rates).max(1));
    tracing::info!(lanes = lanes.len(), ?rates, took = ?start.elapsed(), "as many lanes as help on this adapter");
    if let Some(file) = file.filter(|_| !is_cut_short)
        && let Err(error) = lane_file::add(&file, &key, &rates)
    {
        tracing::warn!(%error, "how many lanes help cannot be kept: the next start measures again");
    }
    Ok(lanes)
}

/// Lanes that are tried at most.
pub(super) fn tried_max(adapter: &Adapter) -> usize {
    if adapter.is_software() { threads().min(2 * TRIED_MAX) } else { TRIED_MAX }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What a measurement holds for.
pub(super) fn key(adapter: &Adapter) -> String {
    let threads = if adapter.is_software() { format!(" | {} threads", threads()) } else { String::new() };
    adapter.identity() + &threads
}

/// The number of lanes up to which each added something, by the rates with one, two and so on.
fn worth(rates: &[Rates]) -> usize {
    let helps = |pair: &&[Rates]| {
        let gains = [pair[1].small / pair[0].small, pair[1].large / pair[0].large];
        gains.iter().all(|gain| *gain >= LOSS_MAX) && (gains[0] * gains[1]).sqrt() >= GAIN_MIN
    };
    rates.len().min(1) + rates.windows(2).take_while(helps).count()
}

/// A product to measure.
struct Work {
    program: Arc<Program>,
    input: Tensor,
}

impl Work {
    fn new(profile: &Profile, [rows, terms, columns]: &[usize; 3]) -> Result<Self> {
        let attributes = Attributes::new();
        let spec = OpSpec { domain: "", name: "MatMul", opset: 17, attributes: &attributes, inputs: 2, outputs: 1 };
        let graph = one_node(&[*rows, *terms], "MatMul", build(&spec)?, pattern(&[*terms, *columns], 7)?);
        let given = [Given::Shape([*rows, *terms].into())];
        let program = Arc::new(compile(&graph, &given, profile, &Choices::new())?);
        Ok(Self { program, input: pattern(&[*rows, *terms], 3)? })
    }

    /// Runs a second with all of `lanes` at work.
    fn rate(&self, lanes: &[Arc<Lane>]) -> Result<f64> {
        let prepare = |lane: &Arc<Lane>| lane.prepare(&self.program).and_then(|e| lane.warm(&e).map(|_| e));
        let executables = lanes.iter().map(prepare).collect::<Result<Vec<Arc<Executable>>>>()?;
        let (runs, start) = (AtomicUsize::new(0), Instant::now());
        let call = |lane: &Lane, executable: &Arc<Executable>| -> Result<()> {
            while start.elapsed() < WINDOW {
                lane.run(executable, vec![self.input.clone()])?;
                runs.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let pairs = || lanes.iter().zip(&executables);
            let callers: Vec<_> = (0..CALLERS)
                .flat_map(|_| pairs())
                .map(|(lane, executable)| scope.spawn(|| call(lane, executable)))
                .collect();
            let stopped = || Error::internal("a measurement ended early");
            callers.into_iter().try_for_each(|caller| caller.join().map_err(|_| stopped())?)
        })?;
        Ok(runs.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::super::device::{LaneOptions, Mask};
    use super::*;

    #[test]
    fn numbers_and_auto_are_understood() {
        assert_eq!("auto".parse::<LaneCount>().expect("a word"), LaneCount::Auto);
        assert_eq!("64".parse::<LaneCount>().expect("a number"), LaneCount::Exactly(64));
        for wrong in ["0", "65", "-1", "many", ""] {
            let error = wrong.parse::<LaneCount>().expect_err("neither");
            assert_eq!(error.message(), format!("lanes is {wrong:?}: say auto, or a number from 1 to 64"));
        }
    }

    #[test]
    fn lanes_are_added_while_they_help() {
        let rates = |pairs: &[(f64, f64)]| -> Vec<Rates> {
            pairs.iter().map(|(small, large)| Rates { small: *small, large: *large }).collect()
        };
        assert_eq!(worth(&[]), 0);
        assert_eq!(worth(&rates(&[(100.0, 10.0)])), 1);
        assert_eq!(worth(&rates(&[(100.0, 10.0), (180.0, 10.5), (190.0, 10.5)])), 2);
        assert_eq!(worth(&rates(&[(100.0, 10.0), (105.0, 10.5), (300.0, 30.0)])), 1, "the third is not asked");
        assert_eq!(worth(&rates(&[(100.0, 10.0), (200.0, 9.0)])), 1, "large work loses too much");
        assert_eq!(worth(&rates(&[(100.0, 10.0), (200.0, 9.6)])), 2);
        assert_eq!(worth(&rates(&[(0.0, 0.0), (0.0, 0.0)])), 1, "nothing was measured");
    }

    #[test]
    fn what_was_measured_is_remembered() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for adapter in Adapter::all() {
            let profile = adapter.profile(&Mask::default());
            let open = |index| Lane::open(&adapter, index, &LaneOptions::default()).map(Arc::new);
            let lanes = open_lanes(&adapter, &profile, Some(folder.path()), open).expect("it can be measured");
            assert!((1..=tried_max(&adapter)).contains(&lanes.len()), "{lanes:?}");
            assert!(lanes.iter().enumerate().all(|(index, lane)| lane.number() == index));
            let Some(rates) = lane_file::read(&folder.path().join("lanes.json"), &key(&adapter)) else {
                assert!(lanes.len() >= TRIED_MIN, "only what was cut short is not kept: {lanes:?}");
                continue;
            };
            assert!(rates.iter().all(|rates| rates.small > 0.0 && rates.large > 0.0), "{rates:?}");
            assert_eq!(worth(&rates), lanes.len());
            let again = open_lanes(&adapter, &profile, Some(folder.path()), open).expect("it is known");
            assert_eq!(again.len(), lanes.len());
        }
    }
}
