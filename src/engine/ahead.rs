//! What a run would wait for on a lane.

use std::time::Duration;

use super::device::Lane;

/// What stands before a run that is given to a lane now. The lesser, the better for the run; where nothing was measured yet, the
/// number of jobs decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ahead {
    /// Whether something is being warmed there.
    pub warming: bool,
    /// Device time until the runs on their way to the lane are done, as far as is known.
    pub promised: Duration,
    /// Jobs handed over and not done.
    pub jobs: usize,
}

impl Ahead {
    /// That on `lane`.
    pub(super) fn on(lane: &Lane) -> Self {
        Self { warming: lane.is_warming(), promised: lane.promised(), jobs: lane.backlog() }
    }
}
