//! How a lane works.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::replay::Replay;
use super::sharing::Sharing;

/// How a lane works.
#[derive(Clone, Debug)]
pub struct LaneOptions {
    /// The number of the adapter's first lane; the others follow it.
    pub first: usize,
    /// Submissions in flight, at least 2: one runs while the next is encoded.
    pub in_flight: usize,
    /// Keep bounds checks and loop bounds in kernels.
    pub checked: bool,
    /// Where compiled kernels are kept between runs of the process, where the backend can.
    pub cache: Option<PathBuf>,
    /// Let kernels multiply fragments, an experimental feature, where the adapter has them.
    pub fragments: bool,
    /// Work that takes longer is taken to never end: the lane gives its device up.
    pub hang_time: Duration,
    /// An adapter none of whose devices has worked for so long is given up.
    pub loss_time: Duration,
    /// Told when the device stops working.
    pub ended: Option<mpsc::Sender<()>>,
    /// What it has in common with the adapter's other lanes; `None`: nothing.
    pub sharing: Option<Arc<Sharing>>,
    /// How batches are replayed; [`Replay::Auto`] records them wherever that is possible.
    pub replay: Replay,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self {
            first: 0,
            in_flight: 2,
            checked: false,
            cache: None,
            fragments: false,
            hang_time: Duration::from_secs(120),
            loss_time: Duration::from_secs(60),
            ended: None,
            sharing: None,
            replay: Replay::Auto,
        }
    }
}
