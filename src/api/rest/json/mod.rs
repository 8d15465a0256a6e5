//! JSON straight into tensors and straight out of them: no tree of values in between.

mod fill;
mod message;
mod outline;
mod print;
mod scalar;
mod text;

pub(super) use fill::{Bounds, Fill, filler};
pub(super) use message::write_message;
pub use outline::JsonLimits;
pub(super) use outline::outline;
pub(super) use print::{Print, printer, write_float, write_string};
pub(super) use scalar::base64_object;
pub(super) use text::Text;
