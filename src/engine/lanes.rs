//! The lanes of an adapter: one that loses its device, or whose work never ends, is replaced by a new one.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::device::{Adapter, Lane, LaneOptions, ShareWeights, Sharing, Way, give_back_free_memory};
use super::ir::{Profile, Program};
use super::lane_count::{LaneCount, open_lanes, tried_max};
use super::replay_choice::choose;
use super::self_test::self_test;
use super::sharing_test::test_sharing;
use crate::error::{Error, Result};

/// Devices whose work never ended after which no other is opened: the driver or the hardware is broken.
const MAX_HUNG: usize = 2;
/// Between attempts to open a device in the place of a lost one: the first pause, doubled up to the last.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];
/// How often those who wait for a lane are told to look at the clock.
const TICK: Duration = Duration::from_millis(100);
/// How long the keeper is waited for at the end: it may be trying a device that hangs.
const KEEPER_STOP_MAX: Duration = Duration::from_secs(5);
/// How long work without a deadline waits for a lane where none works.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who has executables on lanes.
pub(super) trait Tenant: Send + Sync {
    /// Told that lane `index` is a new one: what was on it must be made again.
    fn replaced(&self, index: usize);
}

/// The lanes in use.
pub(super) struct Lanes {
    adapter: Adapter,
    profile: Profile,
    options: LaneOptions,
    count: usize,
    flexible: bool,
    /// Empty once the engine has ended.
    current: RwLock<Vec<Arc<Lane>>>,
    /// Told of every executable that is made on a lane, and ten times a second while one is lost.
    changed: watch::Sender<()>,
    tenants: Mutex<Vec<Weak<dyn Tenant>>>,
    hung: AtomicUsize,
    /// Whether no device is opened any more, because none has worked for too long.
    given_up: AtomicBool,
    replaced: AtomicUsize,
    closed: AtomicBool,
    /// Wakes the keeper.
    bell: mpsc::Sender<()>,
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("current", &self.current).field("hung", &self.hung).finish_non_exhaustive()
    }
}

impl Lanes {
    /// Opens `count` lanes, tests the first, and replaces each that ends, until the handle given beside them is dropped. They
    /// have weights in common as `share` says and replay batches as the options say, where a test finds that it works.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the driver gives no device, `INTERNAL` when it computes wrong.
    pub(super) fn open(
        adapter: &Adapter,
        profile: &Profile,
        options: LaneOptions,
        count: LaneCount,
        share: ShareWeights,
    ) -> Result<(Arc<Self>, Keeper)> {
        let (bell, rung) = mpsc::channel();
        let options = LaneOptions { ended: Some(bell.clone()), ..options };
        let ((current, options), _) = choose(options.replay, adapter.records(), |replay| {
            open_all(adapter, profile, LaneOptions { replay, ..options.clone() }, (count, share))
        })?;
        let lanes = Arc::new(Self {
            adapter: adapter.clone(),
            profile: profile.clone(),
            options,
            count: current.len(),
            flexible: count == LaneCount::Auto,
            current: RwLock::new(current),
            changed: watch::Sender::new(()),
            tenants: Mutex::default(),
            hung: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            replaced: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            bell,
        });
        let kept = Arc::clone(&lanes);
        let thread = std::thread::Builder::new().name("lane-keeper".into()).spawn(move || kept.keep(&rung))?;
        Ok((Arc::clone(&lanes), Keeper { lanes, thread }))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether a model that does not fit on all of them may be put on fewer.
    pub(super) fn are_flexible(&self) -> bool {
        self.flexible
    }

    /// The number of the one in place `index`.
    pub(super) fn number(&self, index: usize) -> usize {
        self.options.first + index
    }

    /// All of them, as they are now.
    pub(super) fn all(&self) -> Vec<Arc<Lane>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lane `index` as it is now.
    ///
    /// # Errors
    /// `UNAVAILABLE` once the engine has ended.
    pub(super) fn get(&self, index: usize) -> Result<Arc<Lane>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.get(index).cloned().ok_or_else(|| Error::unavailable("the engine has ended"))
    }

    /// Whether any of them works.
    pub(super) fn work(&self) -> bool {
        self.all().iter().any(|lane| !lane.is_lost())
    }

    /// The place of one that works, else of the first.
    pub(super) fn working(&self) -> usize {
        self.all().iter().position(|lane| !lane.is_lost()).unwrap_or(0)
    }

    /// How they have weights in common, if they do.
    pub(super) fn sharing(&self) -> Option<Way> {
        self.options.sharing.as_ref().map(|sharing| sharing.way())
    }

    /// Lanes that were replaced so far.
    pub(super) fn replaced(&self) -> usize {
        self.replaced.load(Ordering::Relaxed)
    }

    /// Whether no lane works and none will: so many devices hung, or none has worked for so long, that no other is opened.
    pub(super) fn is_hopeless(&self) -> bool {
        self.hung.load(Ordering::Acquire) >= MAX_HUNG || self.given_up.load(Ordering::Acquire)
    }

    /// Returns once [`Lanes::is_hopeless`].
    pub(super) async fn hopeless(&self) {
        // The sender lives in `self`.
        drop(self.changed.subscribe().wait_for(|()| self.is_hopeless()).await);
    }

    /// Has `tenant` told of every lane that is replaced.
    pub(super) fn tell(&self, tenant: Weak<dyn Tenant>) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|tenant| tenant.strong_count() > 0);
        tenants.push(tenant);
    }

    /// Says that an executable was made on a lane.
    pub(super) fn say_changed(&self) {
        self.changed.send_replace(());
    }

    /// Waits until `find` finds something, which is asked again after every change.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED` at `deadline`; without one `UNAVAILABLE` after half a minute, or when there is no hope.
    pub(super) async fn wait_for<T>(&self, deadline: Option<Instant>, find: impl Fn() -> Option<T>) -> Result<T> {
        if let Some(found) = find() {
            return Ok(found);
        }
        let mut changes = self.changed.subscribe();
        let lost = |what| Error::unavailable(format!("every lane has lost its device, {what}"));
        let last = deadline.unwrap_or_else(|| Instant::now() + PATIENCE);
        loop {
            changes.mark_unchanged();
            if let Some(found) = find() {
                return Ok(found);
            }
            if self.is_hopeless() {
                return Err(lost("and no other is opened because devices hang"));
            }
            if Instant::now() >= last {
                return Err(match deadline {
                    Some(_) => Error::deadline_exceeded("the deadline passed before a lane was there again"),
                    None => lost("and none was there again in time"),
                });
            }
            if self.closed.load(Ordering::Acquire) || changes.changed().await.is_err() {
                return Err(Error::unavailable("the engine has ended"));
            }
        }
    }

    /// As [`Lanes::wait_for`] any lane that works, on a thread that may block.
    pub(super) fn wait_for_any(&self) -> Result<()> {
        pollster::block_on(self.wait_for(None, || self.work().then_some(())))
    }

    /// The keeper's work: replaces lanes that have ended, again and again while that fails.
    fn keep(&self, rung: &mpsc::Receiver<()>) {
        let mut counted = vec![false; self.count];
        let (mut pause, mut next, mut dark_since) = (PAUSES[0], Instant::now(), None);
        loop {
            if self.all().iter().any(|lane| lane.is_lost()) {
                // Those who wait look at the clock when they are told.
                let _ = rung.recv_timeout(TICK);
            } else {
                (pause, next) = (PAUSES[0], Instant::now());
                let _ = rung.recv();
            }
            if self.closed.load(Ordering::Acquire) {
                return;
            }
            if Instant::now() >= next {
                let broken = (0..self.count).filter(|index| !self.mend(*index, &mut counted[*index])).count();
                if broken > 0 {
                    next = Instant::now() + pause;
                    pause = (pause * 2).min(PAUSES[1]);
                }
            }
            self.give_up_if_dark(&mut dark_since);
            self.say_changed();
        }
    }

    /// Gives the adapter up where no lane has worked for too long: a new process may find a device where this one cannot.
    fn give_up_if_dark(&self, since: &mut Option<Instant>) {
        if self.work() || self.is_hopeless() {
            *since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() >= self.options.loss_time {
            tracing::error!(after = ?self.options.loss_time, "no device of the adapter works any more: it is given up");
            self.given_up.store(true, Ordering::Release);
        }
    }

    /// Replaces lane `index` if it has ended. Whether it works then, or must be left as it is. `counted`: whether it is known as
    /// one that hangs.
    fn mend(&self, index: usize, counted: &mut bool) -> bool {
        let Ok(old) = self.get(index) else { return true };
        if !old.is_lost() {
            return true;
        }
        if old.is_hung() && !std::mem::replace(counted, true) {
            self.count_hung();
        }
        if self.is_hopeless() {
            return true;
        }
        let start = Instant::now();
        let opened = match old.faults().buries() {
            true => Err(Error::unavailable("no device opens, which was asked for")),
            false => self.open_tested(index),
        };
        let lane = match opened {
            Ok(lane) => lane,
            Err(error) => {
                tracing::warn!(lane = old.number(), %error, "no device in the place of the lost one yet");
                return false;
            }
        };
        if let Some(place) = self.current.write().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            *place = lane;
        }
        *counted = false;
        self.replaced.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(lane = old.number(), took = ?start.elapsed(), "a new device is in the place of the lost one");
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tenants.iter().filter_map(Weak::upgrade).for_each(|tenant| tenant.replaced(index));
        drop(old);
        give_back_free_memory();
        true
    }

    fn open_tested(&self, index: usize) -> Result<Arc<Lane>> {
        let lane = Arc::new(Lane::open(&self.adapter, index, &self.options)?);
        let sharing = || match &self.options.sharing {
            Some(_) => test_sharing(std::slice::from_ref(&lane), &self.profile),
            None => Ok(()),
        };
        self_test(&lane, &self.profile).and_then(|()| sharing()).inspect_err(|_| {
            if lane.is_hung() {
                self.count_hung();
            }
        })?;
        Ok(lane)
    }

    fn count_hung(&self) {
        if self.hung.fetch_add(1, Ordering::AcqRel) + 1 == MAX_HUNG {
            tracing::error!(hung = MAX_HUNG, "devices hang: no other is opened");
        }
    }
}

/// Lanes on `adapter`, the first of them tested, and the options that they were opened with.
fn open_all(
    adapter: &Adapter,
    profile: &Profile,
    options: LaneOptions,
    (count, share): (LaneCount, ShareWeights),
) -> Result<(Vec<Arc<Lane>>, LaneOptions)> {
    let most = match count {
        LaneCount::Exactly(count) => count.max(1),
        LaneCount::Auto => tried_max(adapter),
    };
    let mut options = LaneOptions { sharing: Sharing::begin(adapter, share, most), ..options };
    let open = |options: &LaneOptions| -> Result<Vec<Arc<Lane>>> {
        let open = |index| Lane::open(adapter, index, options).map(Arc::new);
        match count {
            LaneCount::Exactly(_) => (0..most).map(open).collect(),
            LaneCount::Auto => open_lanes(adapter, profile, options.cache.as_deref(), open),
        }
    };
    let mut sharing = None;
    if options.sharing.is_some() {
        match open(&options).and_then(|lanes| test_sharing(&lanes, profile).map(|()| lanes)) {
            Ok(lanes) => {
                let how = options.sharing.as_ref().map(|sharing| sharing.way().describe());
                tracing::info!(lanes = lanes.len(), how, "lanes have one copy of weights");
                sharing = Some(lanes);
            }
            Err(error) => {
                tracing::warn!(%error, "weights in common do not work here: each lane has its own");
                options.sharing = None;
            }
        }
    }
    let lanes = sharing.map_or_else(|| open(&options), Ok)?;
    self_test(&lanes[0], profile)?;
    Ok((lanes, options))
}

/// Bytes of device memory that `program` needs on those of `lanes` that work, beyond what is there.
pub(super) fn needed(lanes: &[Arc<Lane>], program: &Program) -> u64 {
    let needs: Vec<_> = lanes.iter().filter(|lane| !lane.is_lost()).map(|lane| lane.needs(program)).collect();
    // What lanes have in common, each of them lacks.
    let common = needs.iter().map(|needs| needs.common).max().unwrap_or(0);
    common + needs.iter().map(|needs| needs.own).sum::<u64>()
}

/// Ends the keeping, and the lanes, when it is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    lanes: Arc<Lanes>,
    thread: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.lanes.closed.store(true, Ordering::Release);
        // The keeper listens until it is told so.
        let _ = self.lanes.bell.send(());
        let end = Instant::now() + KEEPER_STOP_MAX;
        while !self.thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        let ended = std::mem::take(&mut *self.lanes.current.write().unwrap_or_else(PoisonError::into_inner));
        self.lanes.say_changed();
        ended.into_iter().for_each(Lane::release);
    }
}
