//! What protocols tell whoever keeps statistics.

use std::time::Duration;

use crate::error::{Code, Error};
use crate::model::ServableId;

/// Which protocol a call came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entrypoint {
    /// gRPC.
    Grpc,
    /// REST.
    Rest,
}

impl Entrypoint {
    /// As TensorFlow Serving's metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Entrypoint::Grpc => "GRPC",
            Entrypoint::Rest => "REST",
        }
    }
}

/// Who answers a call, as it is counted.
#[derive(Clone, Debug)]
pub(super) struct Answering {
    /// The model and its version.
    pub(super) id: ServableId,
    /// The signature, if the version has it; else empty.
    pub(super) signature: String,
}

/// One call that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The protocol.
    pub entrypoint: Entrypoint,
    /// `Predict`, `GetModelMetadata`, …
    pub method: &'static str,
    /// The model asked for; empty when none was named, or it does not exist.
    pub model: &'a str,
    /// The version that answered.
    pub version: Option<i64>,
    /// The signature asked for; empty when none was, or the version has none of the name.
    pub signature: &'a str,
    /// `None` for success.
    pub error: Option<&'a Error>,
    /// From the request's arrival to its reply being ready.
    pub latency: Duration,
}

impl Call<'_> {
    /// The error's code.
    pub fn code(&self) -> Option<Code> {
        self.error.map(Error::code)
    }
}

/// What became of a request that was to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    /// It was.
    Written,
    /// Too many waited already.
    Dropped,
    /// The file could not be written.
    Failed,
}

impl Logged {
    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Logged::Written => "written",
            Logged::Dropped => "dropped",
            Logged::Failed => "failed",
        }
    }
}

/// Receives statistics of calls; must be quick and never block.
pub trait Observer: Send + Sync + 'static {
    /// A call has ended.
    fn called(&self, call: &Call<'_>);
    /// A request to `id` was to be written down.
    fn logged(&self, id: &ServableId, outcome: Logged);
    /// A request was refused at once, so long after its headers were read.
    fn refused(&self, entrypoint: Entrypoint, latency: Duration);
}

/// Keeps no statistics.
#[derive(Debug)]
pub struct Silent;

impl Observer for Silent {
    fn called(&self, _: &Call<'_>) {}
    fn logged(&self, _: &ServableId, _: Logged) {}
    fn refused(&self, _: Entrypoint, _: Duration) {}
}
