//! A model on several engines: each run goes to the one that is done with it first.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::costs::{Cost, Costs};
use super::first_done::{Offer, first_done};
use crate::engine::{Ahead, Demand, Merging, NotBegun, Reference, RunOutput, Session};
use crate::error::{Code, Error, Result};
use crate::tensor::{Shape, Signature, Tensor};

/// How long a run without a deadline waits where every lane is lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between looks for a lane meanwhile.
const TICK: Duration = Duration::from_millis(100);

/// A model made runnable on several engines. What it promises is what [`Session`] does, of all of them together.
#[derive(Debug)]
pub struct Spread(Arc<Sessions>);

/// The sessions, one an engine, the preferred first, and what runs cost on each.
#[derive(Debug)]
struct Sessions {
    all: Vec<Arc<Session>>,
    costs: Mutex<Costs>,
}

/// What is to be run.
struct Run {
    inputs: Vec<Tensor>,
    shapes: Vec<Shape>,
    demand: Demand,
}

impl Spread {
    /// Spreads runs over `sessions` of one model, of which there must be one.
    pub fn new(sessions: Vec<Arc<Session>>) -> Self {
        let costs = Mutex::new(Costs::new(sessions.iter().map(|session| session.row_time()).collect()));
        Self(Arc::new(Sessions { all: sessions, costs }))
    }

    fn first(&self) -> &Session {
        &self.0.all[0]
    }

    /// As [`Session::signature`].
    pub fn signature(&self) -> &Signature {
        self.first().signature()
    }

    /// As [`Session::merging`]: where all may merge, with the batch sizes that any engine has.
    pub fn merging(&self, shapes: &[Shape]) -> Merging {
        let mut sizes = BTreeSet::new();
        for session in &self.0.all {
            match session.merging(shapes) {
                Merging::Rows { batch_sizes } => sizes.extend(batch_sizes),
                alone @ Merging::Alone { .. } => return alone,
            }
        }
        Merging::Rows { batch_sizes: sizes.into_iter().collect() }
    }

    /// As [`Session::is_ready`], on any engine.
    pub fn is_ready(&self, shapes: &[Shape]) -> bool {
        self.0.all.iter().any(|session| session.is_ready(shapes))
    }

    /// As [`Session::check_shapes`].
    ///
    /// # Errors
    /// Those of [`Session::check_shapes`].
    pub fn check_shapes(&self, shapes: &[Shape]) -> Result<()> {
        self.first().check_shapes(shapes)
    }

    /// As [`Session::prepare`], on the quickest engine that works and can.
    ///
    /// # Errors
    /// Those of [`Session::prepare`] on the last of them.
    pub fn prepare(&self, shapes: &[Shape]) -> impl Future<Output = Result<()>> + Send + 'static {
        let (sessions, shapes) = (Arc::clone(&self.0), shapes.to_vec());
        async move {
            let costs = sessions.costs_of(&shapes, Instant::now());
            let mut order: Vec<usize> = (0..sessions.all.len()).collect();
            order.sort_by_key(|engine| (!sessions.all[*engine].works(), costs[*engine].expected));
            let mut outcome = Ok(());
            for engine in order {
                outcome = sessions.all[engine].prepare(&shapes).await;
                if !outcome.as_ref().is_err_and(is_of_engine) {
                    break;
                }
            }
            outcome
        }
    }

    /// As [`Session::run`], on the engine that is done with it first by what runs took on each and what is on its way to its lanes.
    /// What no lane had begun when its device was lost goes to another engine, and so does what one cannot run.
    pub fn run(&self, inputs: Vec<Tensor>, demand: Demand) -> impl Future<Output = Result<RunOutput>> + Send + 'static {
        let sessions = Arc::clone(&self.0);
        let shapes = inputs.iter().map(|tensor| tensor.shape().clone()).collect();
        async move { sessions.run(&Run { inputs, shapes, demand }).await }
    }

    /// As [`Session::reference`]; with floats of 16 bits where any engine has them, since any may have answered.
    pub fn reference(&self) -> Reference {
        let references = self.0.all.iter().map(|session| session.reference());
        references.max_by_key(|reference| reference.halves).unwrap_or_else(|| self.first().reference())
    }

    /// As [`Session::released`], one an engine.
    pub fn released(&self) -> Vec<oneshot::Receiver<()>> {
        self.0.all.iter().filter_map(|session| session.released()).collect()
    }
}

impl Sessions {
    fn costs(&self) -> MutexGuard<'_, Costs> {
        self.costs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What runs of these shapes cost, by engine.
    fn costs_of(&self, shapes: &[Shape], now: Instant) -> Vec<Cost> {
        let costs = self.costs();
        (0..self.all.len()).map(|engine| costs.of(shapes, engine, now)).collect()
    }

    async fn run(&self, run: &Run) -> Result<RunOutput> {
        let last = run.demand.deadline.unwrap_or_else(|| Instant::now() + PATIENCE);
        // Engines that have given it back, and the last reason if that was for good.
        let (mut out, mut refusal) = (vec![false; self.all.len()], None);
        loop {
            let Some((engine, expected)) = self.choose(run, &out) else {
                if let Some(error) = refusal {
                    return Err(error);
                }
                self.wait_a_little(run, last).await?;
                out.fill(false);
                continue;
            };
            let demand = Demand { expected, elsewhere: true, ..run.demand };
            match self.all[engine].run(run.inputs.clone(), demand).await {
                Ok(output) => {
                    let spent = output.stats.times.device;
                    if !spent.is_zero() {
                        self.costs().add(&run.shapes, engine, spent, Instant::now());
                    }
                    return Ok(output);
                }
                Err(error) if is_not_begun(&error) => out[engine] = true,
                Err(error) if is_of_engine(&error) => {
                    out[engine] = true;
                    refusal = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The engine for a run, of those that are not out, and the device time that it is expected to take there. Where none is ready
    /// for it, the quickest that works is to compile it.
    fn choose(&self, run: &Run, out: &[bool]) -> Option<(usize, Duration)> {
        let now = Instant::now();
        let costs = self.costs_of(&run.shapes, now);
        let left = run.demand.deadline.map(|deadline| deadline.saturating_duration_since(now));
        let engines = || (0..self.all.len()).map(|engine| (engine, &self.all[engine]));
        let offer = |(engine, session): (usize, &Arc<Session>)| {
            let ahead = session.ahead(&run.inputs).filter(|_| !out[engine])?;
            Some(Offer { ahead, cost: costs[engine] })
        };
        let offers: Vec<Option<Offer>> = engines().map(offer).collect();
        let could_work = |engine: usize, session: &Session| !out[engine] && session.works();
        let chosen = first_done(&offers, left).or_else(|| {
            let working = engines().filter(|(engine, session)| could_work(*engine, session));
            working.map(|(engine, _)| engine).min_by_key(|engine| costs[*engine].expected)
        })?;
        if offers[chosen].is_some() && offers.contains(&None) {
            // As if all were ready that could be.
            let idle = |engine: usize| Offer { ahead: Ahead::default(), cost: costs[engine] };
            let could = |(engine, session): (usize, &Arc<Session>)| {
                offers[engine].or_else(|| could_work(engine, session).then(|| idle(engine)))
            };
            let better = first_done(&engines().map(could).collect::<Vec<_>>(), left);
            better.filter(|better| offers[*better].is_none()).inspect(|better| self.have_ready(*better, run, now));
        }
        Some((chosen, costs[chosen].expected))
    }

    /// Has an engine get ready for what it would be done with first, for later runs; not again and again.
    fn have_ready(&self, engine: usize, run: &Run, now: Instant) {
        if !self.costs().ask(&run.shapes, engine, now) {
            return;
        }
        let preparing = self.all[engine].prepare_for(&run.inputs);
        tokio::spawn(async move {
            if let Err(error) = preparing.await {
                tracing::debug!(%error, "an adapter could not be made ready for what another runs");
            }
        });
    }

    /// Waits for a lane to come back where all are lost.
    async fn wait_a_little(&self, run: &Run, last: Instant) -> Result<()> {
        if self.all.iter().all(|session| session.is_hopeless()) {
            return Err(Error::unavailable(
                "every lane has lost its device, and no other is opened because devices hang",
            ));
        }
        let now = Instant::now();
        if now >= last {
            return Err(match run.demand.deadline {
                Some(_) => Error::deadline_exceeded("the deadline passed before a lane was there again"),
                None => NotBegun.into(),
            });
        }
        tokio::time::sleep(TICK.min(last - now)).await;
        Ok(())
    }
}

fn is_not_begun(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<NotBegun>())
}

/// Whether the engine lacks something that another may have: memory, a feature, a driver that takes the kernel.
fn is_of_engine(error: &Error) -> bool {
    matches!(error.code(), Code::ResourceExhausted | Code::Unimplemented | Code::Internal)
}
